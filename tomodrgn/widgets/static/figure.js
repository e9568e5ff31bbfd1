// A plotly figure whose clicks always arrive; common.js stands before this text.
//
// Plotly's own widget tells Python of a lasso by setting a value of the model: the next move of the mouse replaces it
// while Python is busy.

function rows(points) {
  const found = {};
  for (const { curveNumber, pointNumber } of points ?? []) (found[curveNumber] ??= []).push(pointNumber);
  return found;
}

function report(model, element) {
  // Nobody asks for each move of the mouse.
  for (const name of ["plotly_hover", "plotly_unhover"]) element.removeAllListeners(name);
  // What was drawn is no part of the figure: it is told once, and goes.
  const told = element._ev.listeners("plotly_relayout");
  element.removeAllListeners("plotly_relayout");
  element.on("plotly_relayout", (change) => {
    if (Object.keys(change ?? {}).some((key) => key.startsWith("selections"))) return;
    for (const tell of told) tell(change);
  });
  element.on("plotly_click", (event) => model.send({ event: "click", points: rows(event.points) }));
  element.on("plotly_selected", (event) => {
    if (!event?.lassoPoints && !event?.range) return;
    model.send({ event: event.lassoPoints ? "lasso" : "box", points: rows(event.points) });
  });
}

export default () => {
  let widget;
  return {
    initialize({ model }) {
      stayInTouch(model);
      // Not waited for: plotly's code may take long to load.
      widget = pageCode(model).then(async ({ default: make }) => {
        const made = make();
        await made.initialize({ model });
        return made;
      });
      widget.catch(() => {});
    },
    async render({ model, el }) {
      const drawn = (event) => {
        if (event.detail.element === el) report(model, el);
      };
      document.addEventListener("plotlywidget-after-render", drawn);
      let clean = () => {};
      try {
        clean = await (await widget).render({ model, el });
      } catch (error) {
        el.textContent = `Got no figure (${error}). Reload the page.`;
      }
      return () => {
        document.removeEventListener("plotlywidget-after-render", drawn);
        clean();
      };
    },
  };
};

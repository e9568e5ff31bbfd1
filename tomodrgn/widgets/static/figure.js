// A plotly figure that shares one copy of plotly's code with all others of the page, and whose clicks always arrive.
//
// Plotly's own widget brings 5 MB of code for each figure and gives up where they are not read within two seconds. It
// tells Python of a lasso by setting a value of the model: the next move of the mouse replaces it while Python is busy.

const PATIENCE_MS = 60000;

async function modelOf(manager, reference) {
  const id = reference.slice("IPY_MODEL_".length);
  const end = Date.now() + PATIENCE_MS;
  // After a reload of the page, models come back in any order.
  for (;;) {
    try {
      return await manager.get_model(id);
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

async function load(model) {
  const carrier = await modelOf(model.widget_manager, model.get("_plotly_code"));
  const address = URL.createObjectURL(new Blob([carrier.get("code")], { type: "text/javascript" }));
  try {
    return (await import(address)).default;
  } finally {
    URL.revokeObjectURL(address);
  }
}

function plotlyWidget(model) {
  const key = "tomodrgn-plotly-" + model.get("_plotly_version");
  globalThis[key] ??= load(model).catch((error) => {
    delete globalThis[key];
    throw error;
  });
  return globalThis[key];
}

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
      // Not waited for: plotly's code may take long to load.
      widget = plotlyWidget(model).then(async (make) => {
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

// Tells Python the colour behind the page's widgets, at once and whenever the theme changes; common.js stands before this.

const SETTLED_MS = [0, 300, 1500]; // the attribute changes before the new style sheet is read

function toHex(colour) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = "#ffffff"; // stays, where the text is no colour
  context.fillStyle = colour;
  return context.fillStyle.slice(0, 7);
}

function pageColour() {
  const style = getComputedStyle(document.body);
  return toHex(style.getPropertyValue("--jp-layout-color0").trim() || "#ffffff");
}

export default {
  initialize({ model }) {
    stayInTouch(model);
    const tell = () => {
      const colour = pageColour();
      if (colour === model.get("background")) return;
      model.set("background", colour);
      model.save_changes();
    };
    const tellSoon = () => SETTLED_MS.forEach((wait) => setTimeout(tell, wait));
    const watcher = new MutationObserver(tellSoon);
    watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
    tellSoon();
    return () => watcher.disconnect();
  },
};

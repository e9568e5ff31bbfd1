// A tile of a gallery: the picture of a map (a button that opens it), a tick, and a label that can be typed. common.js
// stands before this.

function render({ model, el }) {
  el.classList.add("tomodrgn-tile");
  const make = (kind, className) => {
    const made = document.createElement(kind);
    made.className = className;
    return made;
  };
  const open = make("button", "tomodrgn-tile-open");
  open.type = "button";
  const picture = make("img", "tomodrgn-tile-picture");
  const row = make("label", "tomodrgn-tile-name");
  const tick = make("input", "tomodrgn-tile-tick");
  tick.type = "checkbox";
  const name = make("span", "tomodrgn-tile-text");
  const note = make("span", "tomodrgn-tile-note");
  const label = make("input", "tomodrgn-tile-label");
  label.type = "text";
  label.placeholder = "label";
  open.append(picture);
  row.append(tick, name, note);
  el.append(open, row, label);
  let address = "";

  const draw = () => {
    const bytes = model.get("picture");
    if (address) URL.revokeObjectURL(address);
    address = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : "";
    if (address) picture.src = address;
    picture.style.visibility = address ? "visible" : "hidden";
  };
  const tell = () => {
    name.textContent = model.get("name");
    note.textContent = model.get("note");
    row.title = `${model.get("name")} ${model.get("note")}`;
    open.title = `show ${model.get("name")}`;
    open.setAttribute("aria-label", open.title);
    tick.setAttribute("aria-label", `tick ${model.get("name")}`);
    label.setAttribute("aria-label", `label of ${model.get("name")}`);
    tick.checked = model.get("ticked");
    label.value = model.get("label");
    el.classList.toggle("tomodrgn-tile-ticked", model.get("ticked"));
    el.classList.toggle("tomodrgn-tile-opened", model.get("opened"));
    const side = `${model.get("size_px")}px`;
    picture.style.width = picture.style.height = side;
    el.style.width = side;
  };
  const keep = (trait, value) => {
    model.set(trait, value);
    model.save_changes();
  };
  open.addEventListener("click", () => model.send({ kind: "open" }));
  tick.addEventListener("change", () => keep("ticked", tick.checked));
  label.addEventListener("change", () => keep("label", label.value.trim()));
  // JupyterLab's own shortcuts must not take what is typed here.
  for (const kind of ["keydown", "keypress", "keyup"]) label.addEventListener(kind, (event) => event.stopPropagation());
  label.addEventListener("keydown", (event) => {
    if (event.key === "Enter") label.blur();
  });
  model.on("change:picture", draw);
  for (const trait of ["name", "note", "ticked", "label", "opened", "size_px"]) model.on(`change:${trait}`, tell);
  draw();
  tell();
  return () => {
    if (address) URL.revokeObjectURL(address);
  };
}

export default { initialize: ({ model }) => stayInTouch(model), render };

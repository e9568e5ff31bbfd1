// What all widgets of this folder begin with: this text stands before theirs.
//
// anywidget allows each widget two seconds to read its code; whatever Python tells it later is lost, for good. A page
// that is busy drawing needs longer.

// Called in `initialize`: a widget that was too late hears Python again, and is told what it missed.
function stayInTouch(model) {
  let own; // behind the front that anywidget hands out
  const meet = (found) => (own = found);
  model.on("change:_tomodrgn_met", meet);
  model.set("_tomodrgn_met", Math.random()); // any change will do
  model.off("change:_tomodrgn_met", meet);
  const nothing = { content: { data: { method: "nothing" } } };
  // Pages other than JupyterLab's may have no such thing, nor the need.
  own?._handle_comm_msg?.(nothing)?.catch(() => {
    const { prototype } = Object.getPrototypeOf(own.constructor);
    own.comm?.on_msg((message) => prototype._handle_comm_msg.call(own, message));
    own.comm?.send({ method: "request_state" });
  });
}

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

async function readCode(carrier) {
  const address = URL.createObjectURL(new Blob([carrier.get("code")], { type: "text/javascript" }));
  try {
    return await import(address);
  } finally {
    URL.revokeObjectURL(address);
  }
}

// Long code of another program, read once for all widgets that need it. Not to be waited for in `initialize`.
async function pageCode(model) {
  const carrier = await modelOf(model.widget_manager, model.get("_page_code"));
  const key = "tomodrgn-code-" + carrier.get("name");
  globalThis[key] ??= readCode(carrier).catch((error) => {
    delete globalThis[key];
    throw error;
  });
  return globalThis[key];
}

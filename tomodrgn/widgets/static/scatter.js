// jupyter-scatter's own view, drawn when its code has been read; common.js stands before this text.

export default () => {
  let code;
  return {
    initialize({ model }) {
      stayInTouch(model);
      code = pageCode(model);
      code.catch(() => {});
    },
    async render({ model, el }) {
      try {
        return await (await code).default.render({ model, el });
      } catch (error) {
        el.textContent = `Got no scatter (${error}). Reload the page.`;
      }
    },
  };
};

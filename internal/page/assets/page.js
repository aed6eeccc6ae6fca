// Comforts. Every page works without this script.
"use strict";

for (const button of document.querySelectorAll("button[data-reveal]")) {
  const input = document.getElementById(button.dataset.reveal);
  const { hide, hideLabel } = button.dataset;
  const show = button.textContent;
  const showLabel = button.ariaLabel;
  const set = (visible) => {
    input.type = visible ? "text" : "password";
    button.textContent = visible ? hide : show;
    button.ariaLabel = visible ? hideLabel : showLabel;
  };
  button.addEventListener("click", () => {
    set(input.type === "password");
    input.focus();
  });
  input.form.addEventListener("submit", () => set(false)); // so that no browser remembers it as plain text
  button.hidden = false;
}

// A second click on a form that is on its way sends nothing. The button comes back with the page, and after a while.
for (const form of document.querySelectorAll("form[data-once]")) {
  let busy = null;
  const done = () => {
    if (!busy) return;
    clearTimeout(busy.timer);
    busy.button.textContent = busy.text;
    busy.button.removeAttribute("aria-disabled");
    busy = null;
  };
  form.addEventListener("submit", (event) => {
    if (busy) {
      event.preventDefault();
      return;
    }
    const button = event.submitter || form.querySelector("button[type=submit]");
    busy = { button, text: button.textContent, timer: setTimeout(done, 15000) };
    button.textContent = button.dataset.busy;
    button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", done);
}

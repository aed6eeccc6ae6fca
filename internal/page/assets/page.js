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
    busy.button.replaceChildren(...busy.content);
    busy.button.removeAttribute("aria-disabled");
    busy = null;
  };
  form.addEventListener("submit", (event) => {
    if (busy) {
      event.preventDefault();
      return;
    }
    const button = event.submitter || form.querySelector("button[type=submit]");
    busy = { button, content: [...button.childNodes], timer: setTimeout(done, 15000) };
    button.replaceChildren(button.dataset.busy);
    button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", done);
}

// A person who confirms on another device need not press anything here: the page asks by itself, while it is seen.
for (const form of document.querySelectorAll("form[data-poll]")) {
  const status = form.querySelector("[data-waiting]");
  status.textContent = status.dataset.waiting;
  status.hidden = false;
  const transaction = form.elements.transaction.value;
  const address = form.getAttribute("action"); // form.action is the field of that name
  const again = `${address}?transaction=${encodeURIComponent(transaction)}`;
  const ask = async () => {
    const answer = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ action: "poll", transaction }),
    });
    const step = await answer.json();
    if (step.status === "done") location.replace(step.return_to);
    else if (answer.status === 429 || answer.status === 503) return step.retry_after;
    else if (step.code === "access_denied") location.replace(`${again}&said=declined`);
    else if (step.selected?.input !== "wait") location.replace(again); // says what comes next, or that it is over
    else return step.selected.interval;
  };
  let asking = false;
  let pressed = null; // a form that was sent meanwhile
  const wait = (seconds) => setTimeout(async () => {
    if (pressed) return;
    if (document.hidden) {
      document.addEventListener("visibilitychange", () => wait(0), { once: true });
      return;
    }
    asking = true;
    const next = await ask().catch(() => seconds); // out of reach: again later
    asking = false;
    if (next === undefined) return;
    if (pressed) pressed.target.requestSubmit(pressed.submitter);
    else wait(next || 5);
  }, seconds * 1000);
  // Two steps at once would take the login from each other: what the person presses goes after the answer.
  document.addEventListener("submit", (event) => {
    pressed = event;
    if (asking) {
      event.preventDefault();
      event.stopPropagation();
    }
  }, true);
  wait(Number(form.dataset.poll));
}

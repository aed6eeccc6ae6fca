// Tells the page that holds this one in a frame how the silent login ended. Only to our own origin, whoever frames us.
"use strict";
if (window.parent !== window) {
  window.parent.postMessage(
    { type: "cloakroom:silent", authenticated: document.currentScript.dataset.authenticated === "true" },
    location.origin,
  );
}

// Asks for this same address again. The request then comes from our own origin, and a Strict cookie goes with it.
// An address with a fragment needs reload(): to replace it by itself would only scroll. Should a browser count the
// reload as the other site's once more, the fragment is given up rather than the visit.
"use strict";
const [visit] = performance.getEntriesByType("navigation");
if (!location.hash) {
  location.replace(location.href);
} else if (visit && visit.type === "reload") {
  location.replace(location.pathname + location.search);
} else {
  location.reload();
}

// The leak check: does any secret that the provider issued, or was sent, stand anywhere in what was recorded?

// forms are the ways one value may be written.
function forms(value) {
  const all = new Set([value, encodeURIComponent(value), new URLSearchParams({ v: value }).toString().slice(2), JSON.stringify(value).slice(1, -1)]);
  const base64 = Buffer.from(value).toString('base64').replace(/=+$/, '');
  all.add(base64);
  all.add(base64.replaceAll('+', '-').replaceAll('/', '_'));
  return [...all];
}

// leaks(recorded, secrets, app) → a line for each find. The exceptions are those of the contract, and no others:
// the ID token as id_token_hint on the way out through /auth/logout/continue, the code on its way in through the
// callback's URL, and what a person typed, on its way in.
export function leaks(entries, secrets, app) {
  const found = [];
  for (const [value, what] of secrets) {
    for (const form of forms(value)) {
      for (const entry of entries) {
        if (entry.text.includes(form) && !allowed(entry, what, form, app)) {
          found.push(`${what} in ${entry.where} of ${entry.url.split('?')[0]}: …${around(entry.text, form)}…`);
        }
      }
    }
  }
  return found;
}

function allowed({ where, url, text }, what, form, app) {
  const ours = url.startsWith(`${app}/`);
  const path = ours ? new URL(url).pathname : '';
  if (what === 'password') return where === 'request body' && (!ours || path === '/auth/login');
  if (what === 'authorization code') {
    // from the provider's answer into the callback's URL; nothing of ours may hand it on
    if (!ours) return where === 'response headers' || where === 'response body';
    return path.startsWith('/auth/callback') && (['request url', 'address'].includes(where) || target(where, text, form));
  }
  if (what === 'access token') return path === '/auth/token' && where === 'response body'; // of routes with token_to_browser
  if (what === 'ID token') {
    const hint = text.includes(`id_token_hint=${form}`) && text.split(form).length === 2;
    if (ours) return path === '/auth/logout/continue' && where === 'response headers' && hint;
    return hint && (where === 'request url' || where === 'address' || target(where, text, form) || where === 'request headers'); // its own Referer
  }
  return false;
}

// target: HTTP/2 writes the URL of a request as the pseudo header :path, which is the one place in the block.
function target(where, text, form) {
  return where === 'request headers' && text.split(form).length === 2 && text.split('\n').some((line) => line.startsWith(':path: ') && line.includes(form));
}

function around(text, form) {
  const at = text.indexOf(form);
  return `${text.slice(Math.max(0, at - 60), at)}[${form.slice(0, 6)}…]`.replaceAll('\n', ' ⏎ ');
}

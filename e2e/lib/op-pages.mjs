// The provider's hosted login page: a form that checks the password.
import { readBody } from './net.mjs';

export function hostedPages(op, users) {
  return async (req, res) => {
    const { prompt } = await op.interactionDetails(req, res);
    if (prompt.name !== 'login') throw new Error(`unexpected prompt ${prompt.name}`);
    if (req.method !== 'POST') return form(res, '');
    const body = new URLSearchParams((await readBody(req)).toString());
    const [username, password] = [body.get('username'), body.get('password')];
    if (!password || users[username] !== password) return form(res, 'Wrong user name or password');
    return op.interactionFinished(req, res, { login: { accountId: username } }, { mergeWithLastSubmission: false });
  };
}

function form(res, message) {
  res.writeHead(message ? 401 : 200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  res.end(`<!doctype html><title>Provider login</title><p id="op-message">${message}</p>
<form method="post"><input name="username" autocomplete="off"><input name="password" type="password">
<button id="op-submit">Continue</button></form>`);
}

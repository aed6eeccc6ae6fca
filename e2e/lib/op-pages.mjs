// The provider's hosted login page: a form that checks the password, and a code where a login of a class is asked for.
import { readBody } from './net.mjs';

export function hostedPages(op, users, { codes, gold }) {
  return async (req, res) => {
    const { prompt, params } = await op.interactionDetails(req, res);
    const strong = (params.acr_values ?? '').split(' ').includes(gold);
    if (prompt.name !== 'login') throw new Error(`unexpected prompt ${prompt.name}`);
    if (req.method !== 'POST') return form(res, '', strong);
    const body = new URLSearchParams((await readBody(req)).toString());
    const [username, password] = [body.get('username'), body.get('password')];
    if (!password || users[username] !== password) return form(res, 'Wrong user name or password', strong);
    const reached = strong && codes[username] !== undefined && codes[username] === body.get('otp');
    return op.interactionFinished(req, res, { login: { accountId: username, ...(reached && { acr: gold, amr: ['pwd', 'otp'] }) } }, { mergeWithLastSubmission: false });
  };
}

function form(res, message, strong) {
  res.writeHead(message ? 401 : 200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  res.end(`<!doctype html><title>Provider login</title><p id="op-message">${message}</p>
<form method="post"><input name="username" autocomplete="off"><input name="password" type="password">${strong ? '<input name="otp" autocomplete="off">' : ''}
<button id="op-submit">Continue</button></form>`);
}

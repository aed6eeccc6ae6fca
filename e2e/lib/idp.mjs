// `cloakroom idp` in one of its dialects, Cloakroom in front of the API with it, and people who log in there: on the
// built-in pages with a mouse, with the keyboard, without JavaScript, or by the app's own fetch.
//
// Between the provider and everybody stands a tap that hears what the provider issues and is sent, for the leak check.
// It is the provider's address: the text of answers is changed for that, and PUT /claims makes ID tokens say it.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { startAPI } from './api.mjs';
import { leaks } from './leaks.mjs';
import { listen, readBody, until } from './net.mjs';
import { Child, ROOT } from './process.mjs';

export const CLIENT = { id: 'app', secret: 'client-secret-of-the-e2e-suite' };
export const WRONG = '000000'; // a code that is never right

const ISSUERS = { auth0: '/', okta: '/oauth2/default', keycloak: '/realms/demo', entra: '/tenant/v2.0', cognito: '/pool-demo' };

// --- people ----------------------------------------------------------------------------------------------------------

const base32 = () => [...randomBytes(16)].map((b) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[b & 31]).join('');
const recovery = () => base32().match(/.{4}/g).slice(0, 3).join('-');
const app = () => ({ id: 'totp|app', type: 'otp', name: 'Authenticator app', secret: base32() });
const push = (more) => ({ id: 'push|phone', type: 'push', name: 'Phone', number: '42', ...more });
const numbers = () => ['1234', '5678', '9012'].map((end, i) => ({ id: `sms|${i}`, type: 'sms', name: `XXXXXXX${end}` }));

// CONDITIONS are those of the demo's users: each test has a user of its own, so that tests can run beside each other.
const CONDITIONS = {
  plain: () => ({}),
  locked: () => ({ locked: true }),
  otp: () => ({ mfa: true, factors: [app()] }),
  sms: () => ({ mfa: true, phone: '+15550101234', factors: [...numbers(), { id: 'email|1', type: 'email', name: 's***@demo***' }] }),
  push: (dialect) => ({ mfa: true, factors: [push({ push: 'accept', push_polls: dialect === 'auth0' ? 1 : 2 }), app()] }),
  waiter: () => ({ mfa: true, factors: [push({ push: 'wait' }), app()] }),
  refuser: () => ({ mfa: true, factors: [push({ push: 'reject' }), app()] }),
  recover: () => ({ mfa: true, factors: [app(), { id: 'recovery|1', type: 'recovery_code', name: 'Recovery code', secret: recovery() }] }),
  newcomer: () => ({ mfa: true }),
  expired: () => ({ password_expired: true }),
  breached: () => ({ breached: true }),
  robot: () => ({ captcha: true }),
  consent: () => ({ consent: true }),
  denied: () => ({ denied: true }),
  refresh: () => ({ mfa_at_refresh: true, factors: [app()] }),
};

// people makes a user of each condition for each name that the tests go by.
export function people(dialect, names) {
  return names.flatMap((name) => Object.entries(CONDITIONS).map(([condition, make]) => ({
    username: `${condition}-${name}`, password: `${condition} ${randomBytes(9).toString('hex')}`,
    email: `${condition}-${name}@demo.example`, name: `${condition} ${name}`, ...make(dialect),
  })));
}

// codeOf is what an authenticator app shows for a secret now (RFC 6238).
export function codeOf(secret) {
  const bits = [...secret.replaceAll(' ', '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac('sha1', key).update(counter).digest();
  return String((mac.readUInt32BE(mac.at(-1) & 15) & 0x7fffffff) % 1e6).padStart(6, '0');
}

// --- the provider ----------------------------------------------------------------------------------------------------

// What must never be seen, by its name in requests and answers, and what a person may be shown once.
const HIDDEN = {
  access_token: 'access token', AccessToken: 'access token', refresh_token: 'refresh token', RefreshToken: 'refresh token',
  id_token: 'ID token', IdToken: 'ID token', mfa_token: 'mfa_token', auth_session: 'auth_session', oob_code: 'oob_code',
  Session: 'Cognito Session', authorization_code: 'code of the challenge endpoint', code_verifier: 'code verifier', SECRET_HASH: 'SECRET_HASH',
  password: 'password', new_password: 'password', PASSWORD: 'password', NEW_PASSWORD: 'password',
};
const SHOWN = { secret: 'secret of an app', otp_secret: 'secret of an app', SecretCode: 'secret of an app', recovery_codes: 'recovery code', recovery_code: 'recovery code' };
const CODES = ['otp', 'totp', 'binding_code', 'UserCode', 'SMS_MFA_CODE', 'SOFTWARE_TOKEN_MFA_CODE', 'EMAIL_OTP_CODE'];

// startIDP starts the provider for apps at these origins.
export async function startIDP({ dialect, dir, apps, users }) {
  let inner;
  let steering;
  const control = async (method, to, body) => {
    const answer = await fetch(`http://127.0.0.1:${steering}${to}`, { method, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${to}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  };
  const heard = { hidden: new Map([[CLIENT.secret, 'client secret']]), shown: new Map(), codes: new Set(), tokens: new Map() };
  const server = http.createServer((req, res) => { pass(req, res).catch((err) => { res.destroy(err); }); });
  async function pass(req, res) {
    const body = await readBody(req);
    const answer = await forward(inner, req, body);
    const move = (text) => String(text).replaceAll(`127.0.0.1:${inner}`, `127.0.0.1:${outer}`).replaceAll(`127.0.0.1%3A${inner}`, `127.0.0.1%3A${outer}`);
    const moved = Buffer.from(move(answer.body));
    hear(heard, body.toString(), answer);
    const headers = answer.rawHeaders.map((line, i) => (i % 2 ? move(line) : line));
    const length = headers.findIndex((line, i) => i % 2 === 0 && line.toLowerCase() === 'content-length');
    if (length >= 0) headers[length + 1] = String(moved.length);
    res.writeHead(answer.status, headers).end(moved);
  }
  const outer = await listen(server);
  const origin = `http://127.0.0.1:${outer}`;
  fs.writeFileSync(path.join(dir, `${dialect}-users.json`), JSON.stringify(users));
  const child = new Child(['idp', '--dialect', dialect, '--listen', '127.0.0.1:0', '--control', '127.0.0.1:0',
    '--client-id', CLIENT.id, '--client-secret', CLIENT.secret, '--access-token-life', '300s', '--push-interval', '1s',
    '--users', path.join(dir, `${dialect}-users.json`),
    ...apps.flatMap((at) => ['--redirect-uri', `${at}/auth/callback`, '--post-logout-redirect-uri', `${at}/`])], { cwd: dir });
  await child.start(() => {
    [, inner, steering] = /issuer:.*127\.0\.0\.1:(\d+)[^]*control:.*127\.0\.0\.1:(\d+)\n/.exec(child.output) ?? [];
    return steering;
  });
  const issuer = `${origin}${ISSUERS[dialect] ?? ''}`;
  await control('PUT', '/claims', { iss: issuer });
  const byName = new Map(users.map((u) => [u.username, u]));
  return {
    dialect, issuer, origin, control, heard, users: byName,
    otp: async (user) => (await control('GET', `/otp?user=${user}`)).code,
    sent: async (user) => (await control('GET', `/messages?user=${user}`)).at(-1).code,
    // valid says whether the API may take this access token; end makes it one that is over.
    valid: (token) => (heard.tokens.get(token) ?? 0) > Date.now(),
    end: (token) => heard.tokens.set(token, 0),
    close: async () => {
      await child.stop();
      await new Promise((done) => { server.close(done); server.closeAllConnections(); });
      assert.deepEqual(child.faults(), []);
    },
  };
}

function forward(port, { method, url, headers }, body) {
  const sent = { ...headers, host: `127.0.0.1:${port}`, 'accept-encoding': 'identity' };
  return new Promise((done, fail) => {
    const req = http.request({ host: '127.0.0.1', port, method, path: url, headers: sent }, async (res) => {
      try { done({ status: res.statusCode, rawHeaders: res.rawHeaders, location: res.headers.location, body: (await readBody(res)).toString() }); } catch (err) { fail(err); }
    });
    req.on('error', fail).end(body);
  });
}

// hear takes what is secret out of a request and its answer.
function hear(heard, sent, { body, location }) {
  const note = (name, value) => {
    if (CODES.includes(name) && value !== WRONG && value.length >= 6) heard.codes.add(value);
    if (HIDDEN[name] && value.length >= 8) heard.hidden.set(value, HIDDEN[name]);
    if (SHOWN[name] && value.length >= 8) heard.shown.set(value, SHOWN[name]);
  };
  const walk = (value, name) => {
    if (typeof value === 'string') note(name, value);
    else if (value && typeof value === 'object') for (const [key, v] of Object.entries(value)) walk(v, Array.isArray(value) ? name : key);
  };
  const parsed = (text) => { try { return JSON.parse(text); } catch { return Object.fromEntries(new URLSearchParams(text)); } };
  walk(parsed(sent));
  const answer = body.startsWith('{') ? parsed(body) : {};
  walk(answer);
  const tokens = answer.AuthenticationResult ?? answer;
  const token = tokens.access_token ?? tokens.AccessToken;
  if (token) heard.tokens.set(token, Date.now() + 300_000);
  const code = location && new URL(location, 'http://x').searchParams.get('code');
  if (code) heard.hidden.set(code, 'authorization code');
}

// --- the app ---------------------------------------------------------------------------------------------------------

const q = JSON.stringify;

// holdPort keeps a port for an app whose provider has to know it first.
export async function holdPort() {
  const held = net.createServer();
  return { port: await listen(held), free: () => new Promise((done) => { held.close(done); }) };
}

// startFront starts the API and Cloakroom before it. provider is what the provider's configuration has besides.
export async function startFront({ idp, name, dir, certs, held, provider, routes = '' }) {
  const { port } = held;
  const origin = `https://app.test:${port}`;
  const api = await startAPI({ valid: (token) => idp.valid(token) });
  const file = path.join(dir, `${name}.yaml`);
  fs.writeFileSync(file, `listen: ${q(`127.0.0.1:${port}`)}
tls: {cert_file: ${q(certs.certFile)}, key_file: ${q(certs.keyFile)}}
store: ${q(`file:${path.join(dir, `${name}.db`)}`)}
admin: {listen: ""}
limits: {per_account: 100000/1m, per_address: 100000/1m}
log: {requests: all, format: json}
frontends:
  - url: ${q(origin)}
    providers:
      - issuer: ${q(idp.issuer)}
        client_id: ${q(CLIENT.id)}
        client_secret: ${q(CLIENT.secret)}
        scopes: [openid, profile, email, offline_access]
        ${provider}
    routes:
      ${routes.replaceAll('UPSTREAM', q(api.url))}
      - {path: /api/, upstream: ${q(api.url)}}
      - {path: /pages/, upstream: ${q(api.url)}, pages: true}
      - {path: /, files: ${q(path.join(ROOT, 'e2e', 'app'))}, session: none}
`);
  const child = new Child(['serve', '--config', file], { cwd: dir });
  await held.free();
  try {
    await child.start(() => child.output.includes(`127.0.0.1:${port}`));
  } catch (err) {
    await api.close();
    throw err;
  }
  return {
    name, idp, api, origin, child, cookie: '__Host-Http-cloakroom',
    close: async () => {
      await child.stop();
      await api.close();
      assert.deepEqual(child.faults(), []);
    },
  };
}

// --- the leak check --------------------------------------------------------------------------------------------------

const NAMES = /mfa_token|auth_session|oob_code|binding_code|"Session"|SECRET_HASH|X-Amz-Target/;

// leaksOf searches what the browser saw of one front and its provider, and the front's log, for what that provider
// issued and was sent. What a person typed is taken out on its way in, and nowhere else.
export function leaksOf(front, recorded) {
  const { origin, idp: { heard, origin: provider }, child } = front;
  const seen = new Map();
  for (const entry of [...recorded, { where: 'log', url: 'cloakroom', text: child.output }]) {
    if (entry.url !== 'cloakroom' && !entry.url.startsWith(`${origin}/`) && !entry.url.startsWith(`${provider}/`) && /^https?:/.test(entry.url)) continue;
    const one = untyped(entry, origin);
    seen.set(`${one.where} ${one.url} ${one.text}`, one);
  }
  const entries = [...seen.values()];
  const found = leaks(entries, heard.hidden, origin);
  const shownHere = ({ where, url }) => where === 'response body' && (url.startsWith(`${origin}/auth/login/step`) || url.startsWith(`${provider}/`));
  found.push(...leaks(entries.filter((e) => !shownHere(e)), heard.shown, origin));
  const codes = new RegExp(`(?<![\\w.-])(${[...heard.codes].join('|') || '$^'})(?![\\w.-])`);
  for (const { where, url, text } of entries) {
    if (url.startsWith(`${provider}/`) && where === 'request body') continue; // typed in there
    const code = codes.exec(text);
    if (code) found.push(`code in ${where} of ${url.split('?')[0]}: ${text.slice(Math.max(0, code.index - 40), code.index + 10)}`);
    const name = url.startsWith(`${provider}/`) ? null : NAMES.exec(text);
    if (name) found.push(`${name[0]} in ${where} of ${url.split('?')[0]}: ${text.slice(Math.max(0, name.index - 40), name.index + 40)}`);
  }
  return { found: [...new Set(found)], entries: entries.length, secrets: heard.hidden.size + heard.shown.size + heard.codes.size };
}

// untyped takes what a person typed into a step out of its request. The password of the first one is the leak check's own.
function untyped(entry, origin) {
  if (entry.where !== 'request body' || !entry.url.startsWith(`${origin}/auth/login`)) return entry;
  const json = entry.text.startsWith('{');
  const body = json ? JSON.parse(entry.text) : Object.fromEntries(new URLSearchParams(entry.text));
  delete body.code;
  delete body.otp;
  if (new URL(entry.url).pathname === '/auth/login/step') delete body.password;
  return { ...entry, text: json ? JSON.stringify(body) : new URLSearchParams(body).toString() };
}

// --- the people's ways -----------------------------------------------------------------------------------------------

const LABELS = { otp: 'Authenticator app', sms: 'Text message', email: 'Email', push: 'Request to my device', recovery_code: 'Recovery code' };
const TITLES = {
  invalid_credentials: 'Wrong user name or password', account_blocked: 'This account is blocked', password_breached: 'This password is no longer safe',
  access_denied: 'Access was not granted', wrong_code: 'The code is not right', declined: 'The request was refused', unclear: 'That did not work',
};

export const HOME = '/pages/home'; // shows that there is a session, and a token that the API takes
const BUTTON = { submit: 'form:has(input[name=code], input[name=password][autocomplete=new-password]) button[type=submit]', poll: 'form:has(input[value=poll]) button[type=submit]', resend: 'button[value=resend]', cancel: 'button[value=cancel]' };

// mouse and keyboard are the two pairs of hands.
const mouse = {
  fill: (_page, field, text) => field.fill(text),
  press: (_page, button) => button.click(),
};
const keyboard = {
  fill: async (page, field, text) => { await tabTo(page, field); await page.keyboard.type(text); },
  press: async (page, button) => { await tabTo(page, button); await page.keyboard.press('Enter'); },
};

async function tabTo(page, locator) {
  await locator.waitFor();
  for (let i = 0; i < 30; i++) {
    if (await locator.evaluate((e) => e === document.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`no way to ${locator} with the Tab key`);
}

// Reader logs in on the built-in pages.
export class Reader {
  constructor(page, front, { hands = mouse } = {}) { Object.assign(this, { page, front, hands }); }

  // go does what leads to another document, and waits for that.
  async go(act) {
    const loaded = this.page.waitForEvent('domcontentloaded');
    await Promise.all([loaded, act()]);
  }

  press(selector) { return this.go(() => this.hands.press(this.page, typeof selector === 'string' ? this.page.locator(selector).first() : selector)); }

  async login(user, password = this.front.idp.users.get(user).password, more = {}) {
    if (new URL(this.page.url(), 'about:x').pathname !== '/auth/login' || !await this.page.locator('#password').count()) { // else it is there again
      await this.page.goto(`/auth/login?return_to=${encodeURIComponent(HOME)}`, { waitUntil: 'domcontentloaded' });
    }
    await this.hands.fill(this.page, this.page.locator('#username'), user);
    await this.hands.fill(this.page, this.page.locator('#password'), password);
    for (const [name, value] of Object.entries(more)) await this.hands.fill(this.page, this.page.locator(`input[name=${name}]`), value);
    await this.press('form:has(#password) button[type=submit]');
  }

  choices(type, name = '') { return this.page.locator('button.choice').filter({ hasText: LABELS[type] }).filter({ hasText: name }); }

  async choose(type, name) { await this.press(this.choices(type, name).first()); }

  // pick chooses a factor unless it is chosen already.
  async pick(type) { if (await this.choices(type).count()) await this.choose(type); }

  async enroll(type) { await this.choose(type); }

  async setup() {
    const secret = (await this.page.locator('.secret code').innerText()).replaceAll(' ', '');
    assert.match(secret, /^[A-Z2-7]{16,}$/);
    const box = await this.page.locator('.qr svg').boundingBox();
    assert.ok(box.width >= 120 && Math.abs(box.width - box.height) < 2, `the picture is ${box.width} by ${box.height}`);
    return { secret, recovery: await this.page.locator('section.recovery code').allInnerTexts() };
  }

  async submit(code) {
    await this.hands.fill(this.page, this.page.locator('input[name=code]'), code);
    await this.press(BUTTON.submit);
  }

  async newPassword(password) {
    await this.hands.fill(this.page, this.page.locator('input[name=password]'), password);
    await this.press(BUTTON.submit);
  }

  resend() { return this.press(BUTTON.resend); }

  async offers(types) { for (const [type, n] of Object.entries(types)) assert.equal(await this.choices(type).count(), n, `ways by ${type}`); }

  async asks(what) {
    if (what === 'push') return this.page.locator(BUTTON.poll).waitFor();
    const field = this.page.locator(what === 'password' ? 'input[name=password]' : 'input[name=code]');
    await field.waitFor();
    assert.equal(await field.getAttribute('autocomplete'), what === 'password' ? 'new-password' : 'one-time-code');
    return undefined;
  }

  async number() { return (await this.page.locator('.number').innerText()).trim(); }

  // confirmed waits for the other device: the page asks by itself with JavaScript, else whoever waits presses the button.
  async confirmed() {
    const over = async () => !(await this.page.locator(BUTTON.poll).count());
    if (!this.plain) return this.page.locator(BUTTON.poll).waitFor({ state: 'detached', timeout: this.front.idp.dialect === 'auth0' ? 16_000 : 8000 });
    return until('the other device', async () => { if (!await over()) await this.press(BUTTON.poll); return over(); }, { within: 20_000, every: 400 });
  }

  // refused: the login is answered with this. wrong: the step is, and can be taken again.
  async refused(code) {
    await this.page.locator('[role=alert] strong, h1').filter({ hasText: TITLES[code] }).first().waitFor();
    assert.equal((await this.page.context().cookies(this.front.origin)).some((c) => c.name === this.front.cookie), false);
  }

  async wrong(code) {
    await this.page.locator('[role=alert] strong').filter({ hasText: TITLES[code] }).waitFor();
    assert.equal(await this.page.locator(BUTTON.cancel).count(), 1, 'no step to go on with');
  }

  async redirected(user) {
    await this.page.waitForURL((url) => url.origin === this.front.idp.origin, { waitUntil: 'domcontentloaded', timeout: 8000 });
    this.away = true;
    return this.atProvider(user);
  }

  // atProvider goes through the provider's own pages as they come, until they send the person back.
  async atProvider(user, next = 'one more password that is new') {
    const { page, front: { idp } } = this;
    const has = (selector) => page.locator(selector).count();
    for (let i = 0; i < 8 && new URL(page.url()).origin === idp.origin; i++) {
      if (await has('#password')) {
        assert.equal(await page.locator('#username').inputValue(), user, 'the name is known there');
        await page.locator('#password').fill(idp.users.get(user).password);
      }
      if (await has('[name=captcha]')) await page.locator('[name=captcha]').check();
      if (await has('#new_password')) await page.locator('#new_password').fill(next);
      if (await has('#code')) await page.locator('#code').fill(await idp.otp(user));
      await this.go(() => page.locator('form button').first().click());
    }
  }

  // done: back where one came from, with a session and a token that the API takes.
  async done() {
    await this.page.waitForURL(`${this.front.origin}${HOME}`, { waitUntil: 'domcontentloaded' });
    await this.page.getByText(`"url":"${HOME}"`).waitFor();
    const ticket = (await this.page.context().cookies(this.front.origin)).find((c) => c.name === this.front.cookie);
    assert.match(ticket.value, /^[A-Za-z0-9_-]{43}$/);
    if (!this.away) assert.deepEqual((await this.page.context().cookies(this.front.origin)).filter((c) => /-tx-/.test(c.name)), [], 'the login leaves nothing');
  }

  // recovered is the page with the new recovery code.
  async recovered() {
    const codes = await this.page.locator('section.recovery code').allInnerTexts();
    await this.press('main a.button');
    return codes;
  }
}

// Plain is a reader without JavaScript.
export class Plain extends Reader {
  plain = true;
}

// Typist is a reader without a mouse.
export class Typist extends Reader {
  constructor(page, front) { super(page, front, { hands: keyboard }); }
}

// Script is the app's own page: JSON by fetch, nothing added.
export class Script extends Reader {
  async send(to, body) {
    this.answer = await this.page.evaluate(async ([address, json]) => {
      const answer = await fetch(address, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(json) });
      return { status: answer.status, ...{ body: await answer.json() } };
    }, [to, body]);
    this.step = this.answer.body.step ?? this.answer.body;
    return this.answer;
  }

  says(status, word) {
    const { body } = this.answer;
    assert.deepEqual([this.answer.status, body.code ?? body.status], [status, word], JSON.stringify(body));
  }

  async login(user, password = this.front.idp.users.get(user).password, more = {}) {
    if (!this.page.url().endsWith('/step-up.html')) await this.page.goto('/step-up.html', { waitUntil: 'domcontentloaded' });
    await this.send('/auth/login', { username: user, password, return_to: HOME, ...more });
  }

  act(action, more) { return this.send('/auth/login/step', { action, transaction: this.step.transaction, ...more }); }

  factors(type, name = '') { return this.step.factors.filter((f) => f.type === type && f.name.includes(name)); }

  async choose(type, name) {
    await this.act('choose', { factor: this.factors(type, name)[0].id });
    this.says(202, 'challenge');
  }

  async pick(type) { if (this.step.selected?.type !== type) await this.choose(type); }

  async enroll(type) {
    this.says(202, 'enroll');
    await this.act('enroll', { factor: this.factors(type)[0].id });
  }

  async setup() {
    const { otp: { secret, uri, qr_svg: svg }, recovery_codes: codes = [] } = this.step;
    assert.ok(uri.startsWith('otpauth://totp/') && uri.includes(secret));
    assert.match(svg, /^<svg /);
    return { secret, recovery: codes };
  }

  submit(code) { return this.act('submit', { code }); }

  newPassword(password) { return this.act('submit', { password }); }

  resend() { return this.act('resend'); }

  async offers(types) { for (const [type, n] of Object.entries(types)) assert.equal(this.factors(type).length, n, `ways by ${type}`); }

  async asks(what) {
    if (what === 'password') { this.says(202, 'password_change'); assert.equal(this.step.here, true); return; }
    assert.equal(this.step.selected?.input ?? 'code', what === 'push' ? 'wait' : 'code', JSON.stringify(this.step));
  }

  async number() { return this.step.selected.display_code; }

  async confirmed() {
    await until('the other device', async () => (await this.act('poll')).status !== 202, { within: 20_000, every: 1000 * this.step.selected.interval });
  }

  async refused(code) {
    assert.equal(this.answer.body.code, code, JSON.stringify(this.answer));
    assert.equal(this.answer.body.step, undefined);
  }

  async wrong(code) {
    assert.equal(this.answer.body.code, { wrong_code: 'invalid_credentials', declined: 'access_denied', unclear: 'invalid_request' }[code], JSON.stringify(this.answer));
    assert.ok(this.answer.body.step?.status, 'no step to go on with');
  }

  async redirected(user) {
    assert.equal(this.answer.status, 202, JSON.stringify(this.answer));
    await this.go(() => this.page.evaluate((to) => { location.assign(to); }, this.step.url));
    assert.equal(new URL(this.page.url()).origin, this.front.idp.origin);
    await this.atProvider(user);
    this.away = true;
  }

  async done() {
    if (this.away) { await super.done(); return; }
    this.says(200, 'done');
    assert.equal(this.answer.body.return_to, HOME);
    assert.equal(await this.page.evaluate(async () => (await fetch('/api/hello')).status), 200);
  }

  async recovered() { return this.answer.body.recovery_codes; }
}

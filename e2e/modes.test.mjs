// One app, one user, and the way from the form to the hosted page by configuration alone: app/login.js is the same bytes in
// each mode. Besides, logins that have to be of a class: acr_values.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch, Recorder } from './lib/browser.mjs';
import { makeCerts } from './lib/certs.mjs';
import { codeOf, holdPort, HOME, leaksOf, people, Reader, startFront, startIDP } from './lib/idp.mjs';
import { readNetlog } from './lib/netlog.mjs';
import { ROOT, workDir } from './lib/process.mjs';
import { startWorld } from './lib/world.mjs';

// One provider, `cloakroom idp --dialect challenge`, is behind the first three; it knows the password grant, too.
const MODES = {
  'password grant': { provider: 'password_login: true\n        password_method: grant', form: true },
  'challenge endpoint': { provider: 'password_login: true', form: true },
  'hosted page': { provider: 'password_login: false', form: false },
  'password grant at Auth0': { dialect: 'auth0', provider: 'password_login: true\n        profile: auth0', form: true },
};
const APP = fs.readFileSync(path.join(ROOT, 'e2e', 'app', 'login.js'), 'utf8');
const VAULT = '- {path: /vault/, upstream: UPSTREAM, require: {acr: "urn:demo:mfa"}}';

describe('modes', { timeout: 120_000, concurrency: 4 }, () => {
  const fronts = {};
  const idps = {};
  const recorder = new Recorder();
  let browser;
  let dir;
  let certs;

  before(async () => {
    dir = workDir('modes');
    certs = makeCerts(dir);
    process.env.SSL_CERT_FILE = certs.ca;
    const held = Object.fromEntries(await Promise.all(Object.keys(MODES).map(async (mode) => [mode, await holdPort()])));
    const at = (dialect) => Object.keys(MODES).filter((m) => (MODES[m].dialect ?? 'challenge') === dialect).map((m) => `https://app.test:${held[m].port}`);
    const started = ['challenge', 'auth0'].map(async (dialect) => {
      idps[dialect] = await startIDP({ dialect, dir, apps: at(dialect), users: people(dialect, Object.keys(MODES).map(short)) });
    });
    browser = await launch({ spki: certs.spki, netlog: path.join(dir, 'netlog.json') });
    await Promise.all(started);
    await Promise.all(Object.entries(MODES).map(async ([mode, { dialect = 'challenge', provider }]) => {
      fronts[mode] = await startFront({ idp: idps[dialect], name: short(mode), dir, certs, held: held[mode], provider, routes: VAULT });
    }));
  });

  after(async () => {
    await browser?.close();
    await Promise.all(Object.values(fronts).map((front) => front.close()));
    await Promise.all(Object.values(idps).map((idp) => idp.close()));
    if (Object.keys(fronts).length !== Object.keys(MODES).length) return;
    recorder.entries.push(...readNetlog(path.join(dir, 'netlog.json')));
    for (const front of Object.values(fronts)) assert.deepEqual(leaksOf(front, recorder.entries).found, [], `${front.name}: secrets where none may be`);
  });

  async function visit(mode, run) {
    const front = fronts[mode];
    const context = await browser.newContext({ baseURL: front.origin });
    context.setDefaultTimeout(10_000);
    context.on('request', (request) => recorder.note('request body', request.url(), request.postData()));
    context.on('console', (message) => recorder.note('console', message.page()?.url() ?? '', message.text()));
    try {
      const page = await context.newPage();
      await run(new Reader(page, front), page, front);
      await recorder.storage(context, front.origin);
    } finally { await context.close(); }
  }

  // logIn is a person at the app's own login, whatever it leads to.
  async function logIn(p, user) {
    const { page, front } = p;
    await page.goto(`/login.html?return_to=${encodeURIComponent(HOME)}`);
    await page.locator('[name=username]').fill(user);
    await page.locator('[name=password]').fill(front.idp.users.get(user).password);
    await page.getByRole('button', { name: 'Log in' }).click();
  }

  for (const [mode, { form, dialect }] of Object.entries(MODES)) {
    const name = short(mode);
    test(`${mode}: the same app logs the same user in`, () => visit(mode, async (p, page, front) => {
      const answer = page.waitForResponse((r) => new URL(r.url()).pathname === '/auth/login' && r.request().method() === 'POST');
      await logIn(p, 'plain-password-grant');
      const first = await answer;
      if (form) assert.equal(first.status(), 200);
      else {
        assert.ok([404, 202].includes(first.status()), `${first.status()}`);
        await p.page.waitForURL((url) => url.origin === front.idp.origin);
        await page.locator('#username').fill('plain-password-grant');
        await p.atProvider('plain-password-grant');
      }
      p.away = !form;
      await p.done();
      const { user } = await page.evaluate(async () => (await fetch('/auth/session')).json());
      assert.equal(user.email, 'plain-password-grant@demo.example');
      assert.equal(await page.evaluate(async () => (await fetch('/login.js')).text()), APP, 'not the same app');
    }));

    test(`${mode}: a second factor`, () => visit(mode, async (p, page, front) => {
      const user = `otp-${name}`;
      await logIn(p, user);
      if (mode === 'challenge endpoint' || dialect === 'auth0') { // here; elsewhere at the hosted page
        await page.locator('[name=code]').fill(await front.idp.otp(user));
        await page.getByRole('button', { name: 'Go on' }).click();
      } else {
        await page.waitForURL((url) => url.origin === front.idp.origin);
        if (!form) await page.locator('#username').fill(user);
        await p.atProvider(user);
        p.away = true;
      }
      await p.done();
    }));

    test(`${mode}: a class that the login has to be of`, () => visit(mode, async (p, page, front) => {
      const user = `refresh-${name}`; // has an app, and needs it for nothing else
      await logIn(p, user);
      if (!form) {
        await page.waitForURL((url) => url.origin === front.idp.origin);
        await page.locator('#username').fill(user);
        await p.atProvider(user);
      }
      p.away = true;
      await p.done();
      const call = () => page.evaluate(async () => { const a = await fetch('/vault/x'); return [a.status, a.ok ? {} : await a.json()]; });
      const [status, problem] = await call();
      assert.deepEqual([status, problem.code, problem.step?.acr_values], [401, 'step_up_required', 'urn:demo:mfa'], JSON.stringify(problem));
      await page.goto(`${problem.step.url}&return_to=${encodeURIComponent(HOME)}`);
      await page.waitForURL((url) => url.origin === front.idp.origin);
      if (await page.locator('#username').count()) await page.locator('#username').fill(user);
      await p.atProvider(user);
      await p.done();
      assert.equal((await call())[0], 200);
      const { session } = await page.evaluate(async () => (await fetch('/auth/session')).json());
      assert.equal(session.acr, 'urn:demo:mfa');
    }));
  }

  test('challenge endpoint: the app sets up a first factor', () => visit('challenge endpoint', async (p, page) => {
    await logIn(p, 'newcomer-challenge-endpoint');
    const secret = (await page.locator('label:has([name=code])').innerText()).trim();
    await page.locator('[name=code]').fill(codeOf(secret));
    await page.getByRole('button', { name: 'Go on' }).click();
    await p.done();
  }));

  test('challenge endpoint: the app chooses one of three numbers, and waits for a push', () => visit('challenge endpoint', async (p, page, { idp }) => {
    await logIn(p, 'sms-challenge-endpoint');
    await page.getByRole('button', { name: 'sms XXXXXXX9012' }).click();
    await page.locator('[name=code]').waitFor();
    await page.locator('[name=code]').fill(await idp.sent('sms-challenge-endpoint'));
    await page.getByRole('button', { name: 'Go on' }).click();
    await p.done();
    await page.context().clearCookies();
    await logIn(p, 'push-challenge-endpoint');
    await page.getByRole('button', { name: 'push Phone' }).click();
    await page.getByText('42').waitFor();
    await p.done();
  }));

  test('challenge endpoint: the app goes to the hosted page and back', () => visit('challenge endpoint', async (p, page, { idp }) => {
    await logIn(p, 'consent-challenge-endpoint');
    await page.waitForURL((url) => url.origin === idp.origin);
    await p.atProvider('consent-challenge-endpoint');
    p.away = true;
    await p.done();
  }));

  // The certified provider names no class in its ID tokens: a login that had to be of one is not taken for it.
  test('certified provider: acr_values is sent, and a login that does not reach it is refused', async () => {
    const world = await startWorld('certified', { name: 'modes-certified', store: 'file' });
    const context = await browser.newContext({ baseURL: world.origin, ignoreHTTPSErrors: true });
    try {
      const page = await context.newPage();
      const asked = page.waitForRequest((r) => r.url().startsWith(`${world.provider.issuer}/auth?`));
      const arrived = page.goto('/auth/login/redirect?acr_values=urn:example:gold&return_to=/');
      assert.equal(new URL((await asked).url()).searchParams.get('acr_values'), 'urn:example:gold');
      await arrived;
      const [user, password] = Object.entries(world.users)[0];
      await world.hostedLogin(page, user, password);
      await page.locator('h1').filter({ hasText: 'login' }).waitFor();
      assert.equal(new URL(page.url()).pathname, '/auth/callback');
      assert.equal((await context.cookies(world.origin)).some((c) => c.name === world.cookie), false);
    } finally {
      await context.close();
      await world.close();
    }
  });
});

// short is a mode's name for files and users.
function short(mode) { return mode.toLowerCase().replaceAll(' ', '-'); }

// Login on the provider's hosted page, the callback, and silent login.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from './lib/net.mjs';
import { api, loggedIn, session, suite } from './lib/suite.mjs';

suite('hosted', {}, (s) => {
  const [first, second] = [0, 1].map((i) => () => Object.entries(s.world.users)[i]);
  const start = (returnTo = '/') => `/auth/login/redirect?return_to=${encodeURIComponent(returnTo)}`;

  async function hosted(page, returnTo, [user, password] = first()) {
    await page.goto(start(returnTo));
    await s.world.hostedLogin(page, user, password);
    await page.waitForURL(`${s.world.origin}${returnTo}`);
  }

  test('there and back', async () => {
    const page = await s.open();
    await hosted(page, '/?after=login');
    assert.equal((await session(page)).authenticated, true);
    assert.equal((await api(page)).status, 200);
    assert.equal(await page.evaluate(() => document.cookie), '');
  });

  test('the built-in page leads there with a link or button, without JavaScript too', async () => {
    const page = await s.open({ path: '/auth/login?return_to=%2F%3Fx%3D1', javaScriptEnabled: false });
    await page.locator('a[href^="/auth/login/redirect"], form[action^="/auth/login/redirect"] [type=submit]').first().click();
    await s.world.hostedLogin(page, ...first());
    await page.waitForURL(`${s.world.origin}/?x=1`);
  });

  test('three tabs at once, each back where it began', async () => {
    const page = await s.open();
    const tabs = [page, await page.context().newPage(), await page.context().newPage()];
    for (const [i, tab] of tabs.entries()) await tab.goto(start(`/?tab=${i}`));
    await s.world.hostedLogin(tabs[1], ...first());
    await tabs[1].waitForURL(`${s.world.origin}/?tab=1`);
    for (const i of [2, 0]) {
      await tabs[i].reload(); // the provider knows the user by now, or shows its form again
      if (!tabs[i].url().startsWith(s.world.origin)) await s.world.hostedLogin(tabs[i], ...first());
      await tabs[i].waitForURL(`${s.world.origin}/?tab=${i}`);
    }
    for (const tab of tabs) assert.equal((await api(tab)).status, 200);
  });

  test('six logins begun at once: the oldest is dropped, the newest works', async () => {
    const page = await s.open();
    for (let i = 0; i < 6; i++) await page.goto(start(`/?n=${i}`));
    const cookies = (await page.context().cookies(s.world.origin)).filter((c) => c.name.includes('tx-'));
    assert.equal(cookies.length, 5);
    for (const c of cookies) assert.deepEqual([c.httpOnly, c.secure, c.sameSite], [true, s.world.secure, 'Lax']);
    await s.world.hostedLogin(page, ...first());
    await page.waitForURL(`${s.world.origin}/?n=5`);
  });

  test('a restored tab: the callback loaded again goes to return_to, at no cost at the provider', async () => {
    const page = await s.open();
    const callback = page.waitForRequest((r) => new URL(r.url()).pathname.startsWith('/auth/callback'));
    await hosted(page, '/?again=1');
    const url = (await callback).url();
    const before = await s.world.logins();
    await page.goto(url);
    assert.equal(page.url(), `${s.world.origin}/?again=1`);
    assert.equal(await s.world.logins(), before);
    assert.equal((await session(page)).authenticated, true);
  });

  test('the back button after a login shows no error', async () => {
    const page = await s.open();
    await hosted(page, '/?back=1');
    await page.goBack().catch(() => {}); // to the provider's page, or over it
    const next = await page.context().newPage();
    await next.goto('/');
    assert.equal((await session(next)).authenticated, true);
  });

  test("another browser's callback: no login, a page that says so, status 400", async () => {
    const page = await s.open();
    let url;
    const cdp = await page.context().newCDPSession(page); // playwright's routes do not see where a redirect leads
    await cdp.send('Fetch.enable', { patterns: [{ urlPattern: '*/auth/callback*' }] });
    cdp.on('Fetch.requestPaused', (event) => { url = event.request.url; cdp.send('Fetch.failRequest', { requestId: event.requestId, errorReason: 'Aborted' }); });
    await page.goto(start('/'));
    await s.world.hostedLogin(page, ...first()).catch(() => {});
    await until('callback', () => url);
    const victim = await s.open();
    const answer = await victim.goto(url);
    assert.equal(answer.status(), 400);
    assert.ok(await victim.locator('a[href^="/auth/login"]').count() > 0, 'a way to try again');
    await victim.goto('/');
    assert.equal((await session(victim)).authenticated, false);
  });

  test('an error of the provider with HTML in it: our own words only', async () => {
    const page = await s.open();
    let state;
    page.on('request', (r) => { state ??= r.url().startsWith(s.world.origin) ? undefined : new URL(r.url()).searchParams.get('state'); });
    await page.goto(start('/'));
    assert.ok(state);
    const evil = '<img src=x onerror=alert(1)>';
    const answer = await page.goto(`/auth/callback?${new URLSearchParams({ error: 'access_denied', error_description: evil, state, iss: s.world.issuer?.() ?? s.world.provider.issuer })}`);
    assert.equal(answer.status(), 400);
    assert.ok(!(await answer.text()).includes('onerror'));
  });

  test('a wrong iss, no state, a state twice: status 400, no session', async () => {
    const page = await s.open();
    for (const query of ['', '?code=x', '?code=x&state=y', '?code=x&state=y&state=y', `?code=x&state=${'a'.repeat(43)}&iss=https%3A%2F%2Fevil.test`]) {
      const answer = await page.goto(`/auth/callback${query}`);
      assert.equal(answer.status(), 400, query);
    }
    await page.goto('/');
    assert.equal((await session(page)).authenticated, false);
  });

  test('another user than the one logged in gets a question first', async () => {
    const page = await loggedIn(s);
    const [user] = first();
    const [other, password] = second();
    await page.goto(`${start('/')}&prompt=login`);
    await s.world.hostedLogin(page, other, password);
    await page.waitForURL((url) => url.href.startsWith(s.world.origin));
    assert.ok(await page.locator('form[method=post]').count() > 0, `a question at ${page.url()}`);
    await page.locator('form[method=post] [type=submit]').first().click();
    await page.waitForURL(`${s.world.origin}/`);
    const now = await session(page);
    assert.equal(now.authenticated, true);
    assert.notEqual(now.user.sub ?? '', user);
  });

  test('starts nowhere but in a tab of its own: not from fetch, frame or prefetch', async () => {
    const page = await s.open();
    const fetched = await page.evaluate(async (u) => (await fetch(u, { redirect: 'manual' })).status, start('/'));
    assert.equal(fetched, 403);
    const client = s.world.client();
    const prefetch = await client.get(start('/'), { headers: { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-purpose': 'prefetch' } });
    assert.equal(prefetch.status, 503);
    assert.equal(client.cookies.size, 0);
    client.close();
  });

  test('silent login, the whole tab: with and without a session at the provider', async () => {
    const page = await s.open();
    await page.goto('/auth/login/silent?return_to=%2F%3Fsilent%3D1');
    assert.equal(page.url(), `${s.world.origin}/?silent=1`);
    assert.equal((await session(page)).authenticated, false);
    await hosted(page, '/');
    await page.context().clearCookies({ name: s.world.cookie });
    await page.goto('/');
    assert.equal((await session(page)).authenticated, false);
    await page.goto('/auth/login/silent?return_to=%2F%3Fsilent%3D2');
    assert.equal(page.url(), `${s.world.origin}/?silent=2`);
    assert.equal((await session(page)).authenticated, true);
  });

  test('silent login in a frame tells the page of the same origin', async () => {
    const page = await s.open();
    const ask = () => page.evaluate(() => new Promise((done) => {
      const frame = document.createElement('iframe');
      const timer = setTimeout(() => done('no message'), 8000);
      const hear = (event) => {
        if (event.source !== frame.contentWindow) return;
        removeEventListener('message', hear);
        clearTimeout(timer);
        done({ origin: event.origin, data: event.data });
        frame.remove();
      };
      addEventListener('message', hear);
      frame.src = '/auth/login/silent';
      document.body.append(frame);
    }));
    const message = (authenticated) => ({ origin: s.world.origin, data: { type: 'cloakroom:silent', authenticated } });
    assert.deepEqual(await ask(), message(false));
    await hosted(page, '/');
    await page.context().clearCookies({ name: s.world.cookie });
    // This profile keeps the provider's cookies out of frames, as most browsers do by now: the frame says no, the tab
    // (the test above) says yes. The yes in a frame is a test of the root package.
    assert.deepEqual(await ask(), message(false));
    assert.equal((await session(page)).authenticated, false);
  });
});

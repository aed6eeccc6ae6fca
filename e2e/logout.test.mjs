// Logout: by script, by the page, at the provider too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api, loggedIn, session, suite } from './lib/suite.mjs';

suite('logout', {}, (s) => {
  const ticketOf = async (page) => (await page.context().cookies(s.world.origin)).find((c) => c.name === s.world.cookie)?.value;

  // gone asserts that a ticket opens nothing any more, whoever holds it.
  async function gone(ticket) {
    const client = s.world.client();
    client.cookies.set(s.world.cookie, ticket);
    const call = await client.get('/api/hello');
    assert.equal(call.status, 401);
    assert.equal(call.json().code, 'session_ended');
    client.close();
  }

  const logout = (page, init = {}) => page.evaluate(async (i) => {
    const answer = await fetch('/auth/logout', { method: 'POST', ...i });
    return { status: answer.status, body: await answer.json() };
  }, init);

  test('by fetch: the cookie is cleared, the ticket dead, the tokens revoked; again is fine', async () => {
    const page = await loggedIn(s);
    const ticket = await ticketOf(page);
    const revoked = s.world.provider?.state.revoked;
    const { status, body } = await logout(page);
    assert.deepEqual([status, body.status], [200, 'done']);
    assert.equal(await ticketOf(page), undefined);
    assert.equal((await session(page)).authenticated, false);
    assert.equal((await api(page)).status, 401);
    await gone(ticket);
    if (revoked !== undefined) assert.ok(s.world.provider.state.revoked > revoked, 'revoked at the provider');
    assert.equal((await logout(page)).status, 200);
  });

  test('logout_url: RP-initiated logout at the provider, once, and back', async () => {
    const page = await s.open({ path: '/auth/login/redirect' });
    await s.world.hostedLogin(page, ...Object.entries(s.world.users)[0]);
    await page.waitForURL(`${s.world.origin}/`);
    const { body } = await logout(page);
    assert.match(body.logout_url, /^\/auth\/logout\/continue(\?|$)/);
    await page.evaluate((u) => { window.before = true; location.href = u; }, body.logout_url);
    await s.world.hostedLogout(page);
    await page.waitForFunction((o) => location.origin === o && !window.before && document.readyState === 'complete', s.world.origin);
    assert.equal((await session(page)).authenticated, false);
    // the provider forgot the user, too
    await page.goto('/auth/login/silent');
    assert.equal((await session(page)).authenticated, false);
    // one use
    const again = await page.goto(body.logout_url);
    assert.ok(page.url().startsWith(s.world.origin), `${again.status()} ${page.url()}`);
  });

  test('the confirm page, with and without JavaScript', async () => {
    for (const javaScriptEnabled of [true, false]) {
      const page = await loggedIn(s);
      const state = await page.context().storageState();
      await s.close(page.context());
      const next = await s.open({ path: '/auth/logout', javaScriptEnabled, storageState: state });
      const ticket = await ticketOf(next);
      assert.ok(ticket, 'the GET alone ends nothing');
      await next.locator('form[action^="/auth/logout"] [type=submit]').first().click();
      await next.waitForURL((url) => url.pathname !== '/auth/logout');
      assert.equal(await ticketOf(next), undefined);
      await gone(ticket);
      await s.close(next.context());
    }
  });

  test('logout_url in a frame or by fetch goes nowhere', async () => {
    const page = await s.open({ path: '/auth/login/redirect' });
    await s.world.hostedLogin(page, ...Object.entries(s.world.users)[0]);
    await page.waitForURL(`${s.world.origin}/`);
    const { body } = await logout(page);
    const fetched = await page.evaluate(async (u) => { const a = await fetch(u, { redirect: 'manual' }); return [a.type, a.status]; }, body.logout_url);
    assert.notEqual(fetched[0], 'opaqueredirect');
    assert.ok(fetched[1] >= 400);
  });
});

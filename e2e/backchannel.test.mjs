// The provider ends sessions: whoever logs out there is out of the app, everywhere that session was used.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from './lib/net.mjs';
import { api, session, suite } from './lib/suite.mjs';

suite('backchannel', {}, (s) => {
  const [user, password] = ['alice', () => s.world.users.alice];

  // enter logs in at the hosted page; providerCookies: the provider knows the browser already and asks nothing.
  async function enter(providerCookies) {
    const page = await s.open({ path: '' });
    if (providerCookies) await page.context().addCookies(providerCookies);
    await page.goto('/auth/login/redirect');
    if (!providerCookies) await s.world.hostedLogin(page, user, password());
    await page.waitForURL(`${s.world.origin}/`);
    assert.equal((await api(page)).status, 200);
    return page;
  }

  // leave logs out at the provider, with no help of the app.
  async function leave(page) {
    const found = await page.context().request.get(`${s.world.provider.issuer}/.well-known/openid-configuration`, { ignoreHTTPSErrors: true });
    const metadata = await found.json();
    assert.equal(metadata.backchannel_logout_supported, true);
    assert.equal(metadata.backchannel_logout_session_supported, true);
    const tab = await page.context().newPage();
    await tab.goto(metadata.end_session_endpoint);
    await s.world.hostedLogout(tab);
  }

  const inside = async (pages) => Promise.all(pages.map(async (page) => (await api(page)).status));

  test('log out at the provider: both sessions of that login are over, and another login is not', async () => {
    const first = await enter();
    const cookies = await first.context().cookies(s.world.provider.issuer);
    const second = await enter(cookies);
    const another = await enter();
    assert.deepEqual(await inside([first, second, another]), [200, 200, 200]);
    const told = s.world.provider.notices.length;
    await leave(first);
    for (const page of [first, second]) {
      const out = await until('out', async () => { const call = await api(page); return call.status === 401 && call; });
      assert.equal(JSON.parse(out.text).code, 'session_ended');
      assert.equal((await session(page)).authenticated, false);
    }
    await until('the provider has its answer', () => s.world.provider.notices.length > told);
    assert.deepEqual(s.world.provider.notices.slice(told), ['ok']);
    assert.deepEqual(await inside([another]), [200]);
    await first.goto('/auth/login/redirect');
    await s.world.hostedLogin(first, user, password());
    await first.waitForURL(`${s.world.origin}/`);
    assert.deepEqual(await inside([first]), [200], 'and in again');
  });
});

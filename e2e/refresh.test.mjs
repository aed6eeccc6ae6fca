// Access tokens that live a few seconds, and nobody notices.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { api, loggedIn, session, suite } from './lib/suite.mjs';

suite('refresh', { accessLife: 3 }, (s) => {
  test('calls for more than three lives of the access token: each one answered', async () => {
    const page = await loggedIn(s);
    const life = s.world.accessLife;
    const before = await s.world.refreshes();
    const end = Date.now() + life * 3500;
    let calls = 0;
    while (Date.now() < end) {
      assert.equal((await api(page)).status, 200, `call ${calls}`);
      calls++;
      await delay(life * 50);
    }
    const refreshed = (await s.world.refreshes()) - before;
    assert.ok(refreshed >= 3 && refreshed <= 7, `${refreshed} refreshes for ${calls} calls in 3.5 lives`);
    assert.equal((await session(page)).degraded, undefined);
  });

  test('a session left alone for two lives is refreshed by its first call', async () => {
    const page = await loggedIn(s);
    await delay(s.world.accessLife * 2000);
    const answers = await Promise.all(Array.from({ length: 10 }, () => api(page)));
    assert.deepEqual(answers.map((a) => a.status), Array(10).fill(200));
  });
});

suite('refresh-jwt', { accessLife: 3, accessFormat: 'jwt', providers: ['certified'] }, (s) => {
  test('JWT access tokens: the same, and each call arrives with a living bearer and none of our cookies', async () => {
    const page = await loggedIn(s);
    for (let i = 0; i < 12; i++) {
      assert.equal((await api(page)).status, 200);
      await delay(500);
    }
    const calls = s.world.api.requests.filter((r) => r.url === '/api/hello');
    assert.ok(calls.length >= 12);
    assert.ok(calls.filter((c) => !c.ok).length <= 1, 'one may end on its way, on a busy machine; it is renewed and sent again');
    for (const call of calls) {
      assert.match(call.bearer, /^eyJ/);
      assert.doesNotMatch(call.headers.cookie ?? '', /cloakroom/i);
    }
    assert.ok(new Set(calls.map((c) => c.bearer)).size >= 2);
  });
});

suite('streams', { providers: ['certified'] }, (s) => {
  test('a POST, server-sent events and a WebSocket pass, each with the bearer', async () => {
    const page = await loggedIn(s);
    const answer = await api(page, '/api/orders?x=1', { method: 'POST', body: 'ünicode body' });
    assert.deepEqual([answer.status, JSON.parse(answer.text).body, JSON.parse(answer.text).url], [200, 'ünicode body', '/api/orders?x=1']);
    const events = await page.evaluate(() => new Promise((done) => {
      const got = [];
      const source = new EventSource('/api/events');
      source.onmessage = (e) => { got.push([e.data, Math.round(performance.now())]); if (got.length === 3) { source.close(); done(got); } };
      source.onerror = () => done(got);
    }));
    assert.deepEqual(events.map(([data]) => data), ['1', '2', '3']);
    assert.ok(events[2][1] - events[0][1] >= 150, 'flushed one by one, not at the end');
    const echoed = await page.evaluate(() => new Promise((done, fail) => {
      const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/api/socket`);
      socket.onopen = () => socket.send('hello');
      socket.onmessage = (e) => { done(e.data); socket.close(); };
      socket.onerror = () => fail(new Error('no WebSocket'));
    }));
    assert.equal(echoed, 'hello');
  });

  test('logout closes the WebSocket', async () => {
    const page = await loggedIn(s);
    const closed = page.evaluate(() => new Promise((done, fail) => {
      const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/api/socket`);
      socket.onopen = () => fetch('/auth/logout', { method: 'POST' });
      socket.onclose = () => done(true);
      setTimeout(() => fail(new Error('still open after 5 s')), 5000);
    }));
    assert.equal(await closed, true);
  });

  test('a person who goes to a page without a session comes to the login and back', async () => {
    const page = await s.open({ path: '/members/area?x=1' });
    assert.equal(page.url(), `${s.world.origin}/auth/login?return_to=${encodeURIComponent('/members/area?x=1')}`);
    await page.locator('input[name=username]').fill('alice');
    await page.locator('input[name=password]').fill(s.world.users.alice);
    await page.locator('form[action^="/auth/login"] [type=submit]').first().click();
    await page.waitForURL(`${s.world.origin}/members/area?x=1`);
    assert.equal(await page.locator('h1').innerText(), 'Members only');
  });

  test('a link on another site to a members page: no login needed, in spite of the Strict ticket', async () => {
    const page = await loggedIn(s);
    await page.goto('about:blank');
    await page.setContent(`<a href="${s.world.origin}/members/area">go</a>`);
    await page.locator('a').click();
    await page.locator('h1', { hasText: 'Members only' }).waitFor();
    assert.equal(page.url(), `${s.world.origin}/members/area`);
  });
});

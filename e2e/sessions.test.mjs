// A person's own sessions: two browsers, a list, an end, and the tab that hears of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api, formLogin, loggedIn, session, suite } from './lib/suite.mjs';
import { STORE } from './lib/world.mjs';

// Another process hears of an end by the change feed, which does not say why.
const heardAs = (reason) => ({ reason: STORE === 'file' ? reason : 'ended_elsewhere' });

suite('sessions', {}, (s) => {
  const list = (page) => page.evaluate(async () => (await (await fetch('/auth/sessions')).json()).sessions);
  const idOf = async (page) => (await session(page)).session.id;

  // both opens a second browser of the same person, and sees to it that there are no more than these two.
  async function both() {
    const [one, two] = [await loggedIn(s), await loggedIn(s)];
    await one.evaluate(async (keep) => {
      for (const { id, current } of (await (await fetch('/auth/sessions')).json()).sessions) {
        if (!current && id !== keep) await fetch(`/auth/sessions/${id}`, { method: 'DELETE' });
      }
    }, await idOf(two));
    return [one, two];
  }

  // events collects what an EventSource of the page hears, in window.heard.
  const events = (page) => page.evaluate(() => new Promise((open) => {
    window.heard = [];
    window.source = new EventSource('/auth/events');
    for (const type of ['session_ending', 'session_changed', 'session_ended', 'superseded']) {
      window.source.addEventListener(type, (e) => window.heard.push([type, JSON.parse(e.data), Date.now()]));
    }
    window.source.addEventListener('open', () => open());
  }));

  test('both are listed; one ends the other, whose tab hears of it at once, and whose calls get 401', async () => {
    const [one, two] = await both();
    const seen = await list(one);
    assert.deepEqual(seen.map((e) => [e.id, e.current]), [[await idOf(one), true], [await idOf(two), false]]);
    for (const e of seen) assert.match(e.device, /Chrome/);
    await events(two);
    const ended = await one.evaluate(async (id) => {
      const answer = await fetch(`/auth/sessions/${id}`, { method: 'DELETE' });
      return [answer.status, Date.now()];
    }, seen[1].id);
    assert.equal(ended[0], 204);
    await two.waitForFunction(() => window.heard.length > 0);
    const [[type, data, at]] = await two.evaluate(() => window.heard);
    assert.deepEqual([type, data], ['session_ended', heardAs('user')]);
    assert.ok(at - ended[1] < 1000, `${at - ended[1]} ms later`);
    let call = await api(two);
    while (STORE !== 'file' && call.status === 200 && Date.now() - ended[1] < 1000) call = await api(two); // the other processes hear within a second
    assert.deepEqual([call.status, JSON.parse(call.text).code], [401, 'session_ended']);
    // EventSource asks again, is refused, and gives up
    await two.waitForFunction(() => window.source.readyState === EventSource.CLOSED);
    assert.equal((await api(one)).status, 200);
    assert.equal((await list(one)).length, 1);
  });

  test('logout everywhere ends both', async () => {
    const [one, two] = await both();
    await events(two);
    assert.equal(await one.evaluate(async () => (await fetch('/auth/logout', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"everywhere":true}',
    })).status), 200);
    await two.waitForFunction(() => window.heard.length > 0);
    assert.deepEqual((await two.evaluate(() => window.heard))[0].slice(0, 2), ['session_ended', heardAs('logout_everywhere')]);
    for (const page of [one, two]) assert.equal((await session(page)).authenticated, false);
  });

  // The limit is one process's: a browser with three of them behind a round robin never meets it.
  if (STORE === 'file') test('a third stream over HTTP/1.1, a fifth over HTTP/2: the oldest is superseded, and the app stays responsive', async () => {
    const [page] = await both();
    await events(page);
    await page.evaluate(() => Promise.all(Array.from({ length: 4 }, () => new Promise((open) => {
      const source = new EventSource('/auth/events');
      source.addEventListener('superseded', () => source.close());
      source.addEventListener('open', open);
    }))));
    await page.waitForFunction(() => window.heard.length > 0);
    assert.deepEqual((await page.evaluate(() => window.heard))[0].slice(0, 2), ['superseded', {}]);
    await page.evaluate(() => window.source.close());
    assert.equal((await api(page)).status, 200);
  });

  test('the page without JavaScript: end one, then all others', async () => {
    const user = Object.keys(s.world.users)[0];
    const [one, two] = await both();
    const three = await loggedIn(s);
    const plain = await s.open({ path: '', javaScriptEnabled: false, storageState: await one.context().storageState() });
    await plain.goto('/auth/sessions');
    assert.equal(await plain.locator('.sessions li').count(), 3);
    assert.equal(await plain.locator('.sessions li.current').count(), 1);
    await plain.locator(`form:has(input[value="${await idOf(two)}"]) button`).click();
    await plain.waitForURL('**/auth/sessions');
    assert.equal(await plain.locator('.sessions li').count(), 2);
    assert.equal((await api(two)).status, 401);
    assert.equal((await api(three)).status, 200);
    await plain.locator('form:has(input[value=others]) button').click();
    await plain.waitForURL('**/auth/sessions');
    assert.equal(await plain.locator('.sessions li').count(), 1);
    assert.equal((await api(three)).status, 401);
    // the one that was ended comes to the login, and back to the list
    await three.goto('/auth/sessions');
    assert.equal(three.url(), `${s.world.origin}/auth/login?return_to=${encodeURIComponent('/auth/sessions')}`);
    await formLogin(three, user, s.world.users[user], '/auth/sessions');
    await three.waitForURL('**/auth/sessions');
  });

  test('by keyboard alone', async () => {
    const [one, two] = await both();
    await one.goto('/auth/sessions');
    const names = [];
    for (let i = 0; i < 10; i++) {
      await one.keyboard.press('Tab');
      const name = await one.evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.textContent);
      names.push(name);
      if (name.startsWith('End ')) break;
    }
    assert.match(names.at(-1), /^End .+, Active /, names.join(' | '));
    const outline = await one.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, 'none');
    await one.keyboard.press('Enter');
    await one.waitForFunction(() => document.querySelectorAll('.sessions li').length === 1);
    assert.equal((await api(two)).status, 401);
  });

  test('the logout page offers all devices', async () => {
    const [one, two] = await both();
    await one.goto('/auth/logout');
    await one.getByLabel('On all my devices').check();
    await one.locator('form[action^="/auth/logout"] [type=submit]').click();
    await one.waitForURL((url) => url.pathname !== '/auth/logout');
    assert.equal((await session(two)).authenticated, false);
  });
});

// The own-domain form on the built-in page.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api, formLogin, loggedIn, session, suite } from './lib/suite.mjs';

suite('form', {}, (s) => {
  const first = () => Object.entries(s.world.users)[0];

  test('right password: logged in, back where one came from, the API answers', async () => {
    const page = await s.open();
    assert.equal((await session(page)).authenticated, false);
    assert.equal((await api(page)).status, 401);
    const [user, password] = first();
    await formLogin(page, user, password, '/?from=here#there');
    await page.waitForURL(`${s.world.origin}/?from=here#there`);
    const now = await session(page);
    assert.equal(now.authenticated, true);
    assert.equal(now.session.current, true);
    assert.equal((await api(page)).status, 200);
  });

  test('every user, byte for byte', async () => {
    for (const [user, password] of Object.entries(s.world.users)) {
      const page = await s.open({ path: '' });
      await formLogin(page, user, password);
      await page.waitForURL(`${s.world.origin}/`);
      assert.equal((await session(page)).authenticated, true, user);
      await s.close(page.context());
    }
  });

  test('wrong password and unknown user look the same', async () => {
    const seen = [];
    for (const user of [first()[0], 'nobody-of-this-name']) {
      const page = await s.open({ path: '' });
      await formLogin(page, user, 'not the password');
      const alert = page.locator('[role=alert]');
      await alert.waitFor();
      seen.push(await alert.innerText());
      assert.equal(new URL(page.url()).pathname, '/auth/login');
      assert.equal(await page.locator('input[name=password]').inputValue(), '', 'the password is not sent back');
      assert.equal((await page.context().cookies()).some((c) => c.name === s.world.cookie), false);
      await s.close(page.context());
    }
    assert.ok(seen[0].trim());
    assert.equal(seen[0], seen[1]);
  });

  test('without JavaScript', async () => {
    const page = await s.open({ path: '', javaScriptEnabled: false });
    const [user, password] = first();
    await formLogin(page, user, 'not the password');
    await page.locator('[role=alert]').waitFor();
    await page.locator('input[name=username]').fill(user);
    await page.locator('input[name=password]').fill(password);
    await page.locator('form[action^="/auth/login"] [type=submit]').first().click();
    await page.waitForURL(`${s.world.origin}/`);
    assert.ok((await page.context().cookies()).some((c) => c.name === s.world.cookie));
  });

  test('with the keyboard only', async () => {
    const page = await s.open({ path: '/auth/login' });
    const [user, password] = first();
    await tabTo(page, 'username');
    await page.keyboard.type(user);
    await tabTo(page, 'password');
    await page.keyboard.type(password);
    await page.keyboard.press('Enter');
    await page.waitForURL(`${s.world.origin}/`);
    assert.equal((await session(page)).authenticated, true);
  });

  test('each input has a label that a screen reader finds, and the page a language and a heading', async () => {
    const page = await s.open({ path: '/auth/login' });
    assert.ok(await page.locator('html').getAttribute('lang'));
    assert.equal(await page.locator('h1').count(), 1);
    for (const name of ['username', 'password']) {
      const input = page.locator(`input[name=${name}]`);
      assert.ok(await input.evaluate((e) => e.labels.length > 0 && e.labels[0].innerText.trim() !== ''), name);
      assert.ok(await input.getAttribute('autocomplete'), name);
    }
  });

  test('from script: JSON in, JSON out, no header needed', async () => {
    const page = await s.open();
    const [username, password] = first();
    const send = (body) => page.evaluate(async (b) => {
      const answer = await fetch('/auth/login', { method: 'POST', body: JSON.stringify(b), headers: { 'content-type': 'application/json' } });
      return { status: answer.status, body: await answer.json() };
    }, body);
    const wrong = await send({ username, password: 'not the password' });
    assert.deepEqual([wrong.status, wrong.body.code], [401, 'invalid_credentials']);
    const right = await send({ username, password, return_to: '/x' });
    assert.deepEqual([right.status, right.body.status, right.body.return_to], [200, 'done', '/x']);
    assert.equal((await api(page)).status, 200);
  });

  test('the ticket: its name, its attributes, and nothing for a script to see', async () => {
    const page = await loggedIn(s);
    const ours = (await page.context().cookies(s.world.origin));
    const device = s.world.secure ? '__Host-Http-cloakroom-device' : `${s.world.cookie}-device`; // that this browser is known
    assert.deepEqual(ours.map((c) => c.name).sort(), [s.world.cookie, device]);
    const ticket = ours.find((c) => c.name === s.world.cookie);
    const known = ours.find((c) => c.name === device);
    assert.deepEqual([known.httpOnly, known.secure, known.sameSite, known.path], [true, s.world.secure, 'Strict', '/']);
    assert.match(ticket.value, /^[A-Za-z0-9_-]{43}$/);
    assert.deepEqual(
      { httpOnly: ticket.httpOnly, secure: ticket.secure, sameSite: ticket.sameSite, path: ticket.path, expires: ticket.expires },
      { httpOnly: true, secure: s.world.secure, sameSite: 'Strict', path: '/', expires: -1 },
    );
    assert.equal(await page.evaluate(() => document.cookie), '');
    if (s.world.secure) assert.equal(s.world.cookie, '__Host-Http-cloakroom');
  });

  test('a login gives a new ticket, and the one before opens nothing', async () => {
    const page = await loggedIn(s);
    const ticket = async () => (await page.context().cookies(s.world.origin)).find((c) => c.name === s.world.cookie).value;
    const old = await ticket();
    const [user, password] = first();
    await formLogin(page, user, password);
    await page.waitForURL(`${s.world.origin}/`);
    assert.notEqual(await ticket(), old);
    const thief = s.world.client();
    thief.cookies.set(s.world.cookie, old);
    assert.equal((await (await thief.get('/auth/session')).json()).authenticated, false);
    thief.close();
  });

  test('a login fixed by somebody else: a ticket that was there before is not taken over', async () => {
    const page = await s.open({ path: '' });
    const planted = 'A'.repeat(43);
    await page.context().addCookies([{ name: s.world.cookie, value: planted, url: s.world.origin, httpOnly: true, secure: s.world.secure, sameSite: 'Strict' }]);
    const [user, password] = first();
    await formLogin(page, user, password);
    await page.waitForURL(`${s.world.origin}/`);
    const now = (await page.context().cookies(s.world.origin)).find((c) => c.name === s.world.cookie).value;
    assert.notEqual(now, planted);
    assert.equal((await session(page)).authenticated, true);
  });
});

async function tabTo(page, name) {
  for (let i = 0; i < 20; i++) {
    if (await page.evaluate(() => document.activeElement?.getAttribute('name')) === name) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`no way to ${name} with the Tab key`);
}

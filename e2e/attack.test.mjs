// Pages of other origins send what browsers let them send, at every route and every /auth action. Nothing arrives at
// the API, nothing changes. The positive control in between is the app's own page, whose plain fetch passes.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { attack, startPages, VECTORS } from './lib/attacker.mjs';
import { api, loggedIn, session, suite } from './lib/suite.mjs';

const TARGETS = ['/api/attack', '/api/attack/socket', '/auth/login', '/auth/logout', '/auth/session', '/auth/session/touch',
  '/auth/login/redirect', '/auth/login/silent', '/auth/logout/continue'];

suite('attack', {}, (s) => {
  let pages;
  let origins;
  before(async () => {
    pages = await startPages(s.world.secure ? s.world.certs : undefined);
    const scheme = s.world.secure ? 'https' : 'http';
    origins = {
      'another site': `${scheme}://evil.test:${pages.port}`,
      'a sibling of the same site': `${scheme}://${s.world.secure ? 'sub.app.test' : '127.0.0.1'}:${pages.port}`,
    };
  });
  after(() => pages?.close());

  for (const who of ['another site', 'a sibling of the same site']) {
    test(`from ${who}: every way in, at every route and action`, async () => {
      const app = await loggedIn(s);
      const evil = await app.context().newPage();
      await evil.goto(`${origins[who]}/`);
      const state = async () => ({ session: (await session(app)).session.id, arrived: await s.world.arrived('attack'), logins: await s.world.logins(), cookies: (await app.context().cookies(s.world.origin)).map((c) => `${c.name}=${c.value}`) });
      const before = await state();
      for (const target of TARGETS) {
        const outcomes = await evil.evaluate(async ([source, vectors, url]) => {
          const run = new Function(`return (${source})`)();
          return Promise.all(vectors.map(async (vector) => [vector, await run({ vector, url })]));
        }, [attack.toString(), VECTORS, s.world.origin + target]);
        for (const [vector, how] of outcomes) {
          assert.doesNotMatch(String(how), /^(basic|cors|default) |open/, `${vector} at ${target} could read an answer: ${how}`);
        }
      }
      assert.deepEqual(await state(), before);
      // the app's own page still gets through, without any header of its own
      assert.equal((await api(app, '/api/attack')).status, 200);
      assert.equal(await s.world.arrived('attack'), before.arrived + 1);
    });

    test(`from ${who}: a whole tab posts a form at every action`, async () => {
      const app = await loggedIn(s);
      const before = { id: (await session(app)).session.id, arrived: await s.world.arrived('attack'), logins: await s.world.logins() };
      for (const target of ['/auth/login', '/auth/logout', '/auth/session/touch', '/api/attack']) {
        const evil = await app.context().newPage();
        await evil.goto(`${origins[who]}/`);
        const answer = evil.waitForResponse((r) => r.url() === s.world.origin + target);
        await evil.evaluate((action) => {
          const form = Object.assign(document.createElement('form'), { method: 'post', action });
          for (const [name, value] of Object.entries({ username: 'bob', password: 'bob has another one' })) form.append(Object.assign(document.createElement('input'), { name, value }));
          document.body.append(form);
          form.submit();
        }, s.world.origin + target);
        const status = (await answer).status();
        assert.ok(status === 403 || (status === 401 && target.startsWith('/api/')), `${target}: ${status}`);
        await evil.close();
      }
      assert.deepEqual({ id: (await session(app)).session.id, arrived: await s.world.arrived('attack'), logins: await s.world.logins() }, before);
    });
  }

  test('login CSRF: a browser that is logged out is not logged in as the attacker', async () => {
    const page = await s.open({ path: '' });
    for (const origin of Object.values(origins)) {
      await page.goto(`${origin}/`);
      const before = await s.world.logins();
      const [username, password] = Object.entries(s.world.users)[1];
      const answer = page.waitForResponse((r) => r.url() === `${s.world.origin}/auth/login`);
      await page.evaluate(([action, fields]) => {
        const form = Object.assign(document.createElement('form'), { method: 'post', action });
        for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement('input'), { name, value }));
        document.body.append(form);
        form.submit();
      }, [`${s.world.origin}/auth/login`, { username, password }]);
      assert.equal((await answer).status(), 403);
      await page.waitForURL(`${s.world.origin}/auth/login`);
      assert.equal(await s.world.logins(), before);
      assert.deepEqual(await page.context().cookies(s.world.origin), []);
    }
  });

  test('a link from another site to the start of a hosted login shows a button, and starts nothing', async () => {
    const page = await s.open({ path: '' });
    for (const origin of Object.values(origins)) {
      await page.goto(`${origin}/`);
      await page.evaluate((href) => { const a = Object.assign(document.createElement('a'), { href, textContent: 'go', id: 'go' }); document.body.append(a); }, `${s.world.origin}/auth/login/redirect`);
      await page.locator('#go').click();
      await page.waitForURL((url) => url.origin === s.world.origin);
      assert.deepEqual(await page.context().cookies(s.world.origin), []);
    }
  });

  test('frames: no page of ours can be framed by another origin', async () => {
    const page = await loggedIn(s);
    const evil = await page.context().newPage();
    for (const origin of Object.values(origins)) {
      await evil.goto(`${origin}/`);
      for (const path of ['/', '/auth/login', '/auth/logout']) {
        const answer = evil.waitForResponse((r) => r.url() === s.world.origin + path);
        await evil.evaluate((src) => { document.body.append(Object.assign(document.createElement('iframe'), { src })); }, s.world.origin + path);
        const headers = await (await answer).allHeaders();
        const refused = (await answer).status() === 403 || /frame-ancestors '(none|self)'/.test(headers['content-security-policy'] ?? '');
        assert.ok(refused, `${path} from ${origin}: ${headers['content-security-policy']}`);
      }
    }
  });
});

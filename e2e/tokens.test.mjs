// Tokens by route, with the certified provider: resource indicators (RFC 8707), token exchange (RFC 8693), client
// credentials, and a token that the app's scripts may have.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { API, MAIL, ORDERS, jwtClaims } from './lib/op.mjs';
import { api, suite } from './lib/suite.mjs';

const STOCK = 'https://stock.test';
const routes = `- {path: /api/orders/, name: orders, upstream: UPSTREAM, audience: "${ORDERS}", scopes: ["orders:read"], token_to_browser: true}
      - {path: /api/stock/, name: stock, upstream: UPSTREAM, token: exchange, audience: "${STOCK}"}
      - {path: /api/mail/, name: mail, upstream: UPSTREAM, token: client, audience: "${MAIL}", scopes: ["mail:send"]}
      - {path: /api/other/, name: other, upstream: UPSTREAM, scopes: [admin]}`;
const options = { accessLife: 8, accessFormat: 'jwt', providers: ['certified'], audience: API, scopes: ['orders:read'], routes };

suite('tokens', options, (s) => {
  const loggedIn = async () => {
    const page = await s.open({ path: '/auth/login/redirect?return_to=/' });
    await s.world.hostedLogin(page, 'alice', s.world.users.alice);
    await page.waitForURL(`${s.world.origin}/`);
    return page;
  };
  const seen = (path) => s.world.api.requests.filter((r) => r.url.startsWith(path)).map((r) => ({ ...jwtClaims(r.bearer), ok: r.ok }));

  test('each route gets a living token for its own audience, over many lives, and one session refreshes for all', async () => {
    const page = await loggedIn();
    const end = Date.now() + s.world.accessLife * 3000;
    for (let i = 0; Date.now() < end; i++) {
      const answers = await Promise.all(['/api/hello', '/api/orders/1', '/api/stock/1', '/api/mail/1'].flatMap((p) => [api(page, p), api(page, p)]));
      assert.deepEqual(answers.map((a) => a.status), Array(8).fill(200), `round ${i}`);
      await delay(500);
    }
    for (const [path, aud, sub, scope] of [['/api/hello', API, 'alice'], ['/api/orders/', ORDERS, 'alice', 'orders:read'], ['/api/stock/', STOCK, 'alice', 'stock'], ['/api/mail/', MAIL, 'app', 'mail:send']]) {
      const tokens = seen(path);
      assert.ok(tokens.length >= 10);
      assert.ok(tokens.filter((t) => !t.ok).length <= 1, `${path}: one may end on its way; it is renewed and sent again`);
      for (const t of tokens) assert.deepEqual([t.aud, t.sub, scope && t.scope], [aud, sub, scope], path);
      assert.ok(new Set(tokens.map((t) => t.jti)).size >= 2, `${path}: renewed`);
    }
    const refreshes = await s.world.refreshes();
    assert.ok(refreshes >= 4 && refreshes <= 16, `${refreshes} refreshes for two audiences in three lives`);
    // An exchange may meet a token that the provider, which counts whole seconds, takes for over: the next one is tried.
    const refused = s.world.provider.refused.filter((r) => !r.includes('token-exchange'));
    assert.deepEqual(refused, [], 'no spent refresh token came back');
  });

  test('a scope that was not granted is a no to its route only', async () => {
    const page = await loggedIn();
    const answer = await api(page, '/api/other/1');
    assert.deepEqual([answer.status, JSON.parse(answer.text).code], [403, 'access_denied']);
    assert.equal((await api(page)).status, 200);
    assert.equal((await api(page, '/api/orders/1')).status, 200);
    s.world.provider.refused.length = 0;
  });

  test('the app fetches the token of the route that allows it, and of no other', async () => {
    const page = await loggedIn();
    const [status, body, cache] = await page.evaluate(async () => {
      const r = await fetch('/auth/token?route=orders');
      const body = await r.json();
      return [r.status, { ...body, access_token: JSON.parse(atob(body.access_token.split('.')[1])).aud }, r.headers.get('cache-control')];
    });
    assert.equal(body.access_token, ORDERS);
    assert.deepEqual([status, body.token_type, Object.keys(body).sort(), cache], [200, 'Bearer', ['access_token', 'expires_in', 'token_type'], 'no-store']);
    assert.ok(body.expires_in >= 0 && body.expires_in <= s.world.accessLife);
    for (const name of ['stock', 'mail', 'other', '/api/', '']) {
      const answer = await api(page, `/auth/token?route=${encodeURIComponent(name)}`);
      assert.equal(answer.status, 404, name);
    }
  });
});

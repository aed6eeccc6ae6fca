// Input that nobody sends by mistake, on the wire, against the real binary: what is refused, what never reaches the
// API, and what never reaches the log.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { until } from './lib/net.mjs';
import { startWorld } from './lib/world.mjs';

describe('hostile', { timeout: 120_000 }, () => {
  let world;
  let client; // logged in
  before(async () => { world = await startWorld('certified', { name: 'hostile', plain: true }); });
  after(() => world?.close());
  beforeEach(async () => {
    client?.close();
    client = world.client();
    await client.login({ username: 'alice', password: world.users.alice });
  });

  const ticket = () => client.cookies.get(world.cookie);
  const port = () => Number(new URL(world.origin).port);

  // raw sends bytes as they are and returns the head of the answer.
  function raw(text) {
    return new Promise((done, fail) => {
      const socket = net.connect(port(), '127.0.0.1', () => socket.write(text));
      let got = '';
      socket.setTimeout(5000, () => { socket.destroy(); fail(new Error(`no answer to ${JSON.stringify(text.slice(0, 100))}`)); });
      socket.setEncoding('latin1').on('data', (part) => { got += part; if (got.includes('\r\n\r\n')) socket.end(); });
      socket.on('close', () => done({ status: Number(got.split(' ')[1]), text: got }));
      socket.on('error', fail);
    });
  }

  const line = (target, headers = []) => [`GET ${target} HTTP/1.1`, `Host: 127.0.0.1:${port()}`, `Cookie: ${world.cookie}=${ticket()}`,
    'Sec-Fetch-Site: same-origin', 'Connection: close', ...headers, '', ''].join('\r\n');

  test('login bodies: what is not exactly a login is refused before the provider hears of it', async () => {
    const asked = await world.logins();
    const json = { 'content-type': 'application/json' };
    for (const [status, body, headers = json] of [
      [400, '{"username":"alice","password":"x","password":"y"}'],
      [400, '{"username":"alice","password":1}'],
      [400, '{"username":["alice"],"password":"x"}'],
      [400, '{"username":"alice","password":"x","admin":true}'],
      [400, '{"username":"alice","password":""}'],
      [400, '{"username":"alice"}'],
      [400, '{"username":"alice","password":"x"'],
      [400, '{"username":"alice","password":"x"}{}'],
      [400, '[]'], [400, ''], [400, 'null'],
      [413, JSON.stringify({ username: 'alice', password: 'x'.repeat(1 << 20) })],
      [415, '{"username":"alice","password":"x"}', { 'content-type': 'text/plain' }],
      [415, '{"username":"alice","password":"x"}', {}],
      [415, 'username=alice&password=x', { 'content-type': 'multipart/form-data; boundary=x' }],
      [400, 'username=alice&password=x&password=y', { 'content-type': 'application/x-www-form-urlencoded' }],
    ]) {
      const answer = await world.client().post('/auth/login', { body, headers });
      assert.equal(answer.status, status, `${body.slice(0, 80)} got ${answer.status} ${answer.text.slice(0, 200)}`);
      assert.equal(answer.headers['set-cookie'], undefined);
    }
    assert.equal(await world.logins(), asked);
  });

  test('a wrong password and an unknown user: the same answer but for its id, and no password in the log', async () => {
    const answers = [];
    for (const username of ['alice', 'no-such-user']) {
      const begun = Date.now();
      const answer = await world.client().post('/auth/login', { json: { username, password: 'canary-of-a-wrong-password' } });
      const { request_id: id, ...body } = answer.json();
      const { date, 'content-length': length, ...headers } = answer.headers;
      assert.ok(id && date && length);
      answers.push({ status: answer.status, body, headers: Object.keys(headers).sort() });
      assert.ok(Date.now() - begun >= 200, 'released at a multiple of 250 ms');
    }
    assert.equal(answers[0].status, 401);
    assert.deepEqual(answers[0], answers[1]);
    assert.ok(!world.logs().includes('canary-of-a-wrong-password'));
  });

  test('two cookies of our name: no session, both taken back, and it is on record', async () => {
    for (const cookie of [`${world.cookie}=${ticket()}; ${world.cookie}=${'A'.repeat(43)}`, `${world.cookie}=${ticket()}; ${world.cookie}=${ticket()}`]) {
      const answer = await client.get('/api/hello', { headers: { cookie } });
      assert.equal(answer.status, 401);
      assert.match(String(answer.headers['set-cookie']), new RegExp(`${world.cookie}=;.*Max-Age=0`, 'i'));
      await until('the audit event', () => world.logs().includes('duplicate_cookie'));
      client.cookies.clear();
      await client.login({ username: 'alice', password: world.users.alice });
    }
  });

  test('tickets that are none', async () => {
    for (const value of ['', 'x', 'A'.repeat(42), 'A'.repeat(44), `${'A'.repeat(42)}=`, `${'A'.repeat(42)}B`, '%41'.repeat(43), '"'.repeat(43), 'é'.repeat(20), 'A'.repeat(60_000)]) {
      const { status } = await raw(line('/api/hello').replace(ticket(), value));
      assert.ok(status === 401 || status === 431, `${value.slice(0, 50)}: ${status}`);
    }
  });

  test('headers past every bound', async () => {
    assert.equal((await raw(line('/api/hello', [`X-Big: ${'a'.repeat(3 << 20)}`])).catch(() => ({ status: 431 }))).status, 431);
    assert.equal((await client.get('/api/hello')).status, 200);
  });

  test('paths that two programs could read in two ways never reach the API', async () => {
    const before = await world.arrived();
    for (const path of ['/api/..%2fauth/session', '/api/%2e%2e%2fopen/x', '/api/%2e%2e/open/x', '/api/../open/x', '/api/./x', '/api//x', '//api/x', '/api/x%00', '/api/%5c..%5copen',
      '/api\\..\\open', '/api/..;/open/x', '/api/.;x=1/y', '/api/%252e%252e/x', '/api/%2F', '/open/..%2fapi/x', '/open/%2e%2e/api/x', '/open/..;/api/x', '/api/\x01', '/api/x%0d%0aX-A:b']) {
      const { status, text } = await raw(line(path));
      assert.ok(status === 400 || (status >= 301 && status <= 308 && !/^location: .*api/im.test(text)), `${JSON.stringify(path)}: ${status}`);
    }
    for (const target of ['http://evil.test/api/hello', 'https://127.0.0.1/api/hello']) {
      const { status } = await raw(line(target));
      assert.ok([400, 421].includes(status), `${target}: ${status}`);
    }
    assert.equal(await world.arrived(), before);
  });

  test('another Host is not served', async () => {
    for (const host of ['evil.test', `localhost:${port()}`, '127.0.0.1:1', `127.0.0.1.evil.test:${port()}`]) {
      const { status } = await raw(line('/auth/session').replace(/Host: .*/, `Host: ${host}`));
      assert.equal(status, 421, host);
    }
  });

  test('what the API gets: our headers only from us, none of our cookies, nothing that Connection names', async () => {
    const { status } = await raw(line('/api/headers', [
      'Authorization: Bearer forged', 'DPoP: forged', 'X-Forwarded-For: 6.6.6.6', 'X_Forwarded_For: 6.6.6.6', 'Forwarded: for=6.6.6.6', 'X-Forwarded-Host: evil.test',
      'X-Forwarded-Proto: https', 'X-Forwarded-User: root', 'X-Auth-User: root', 'X-Auth_Request-Email: root', 'X-Real-IP: 6.6.6.6', 'X-Cloakroom: 1', 'X-Cloakroom-Passive: 0',
      'Remote-User: root', 'X-Hop: secret', 'Connection: X-Hop', 'Proxy-Authorization: Basic x', 'Te: trailers', 'X-Kept: yes',
    ]));
    assert.equal(status, 200);
    const seen = world.api.requests.at(-1);
    assert.equal(seen.url, '/api/headers');
    assert.ok(seen.ok, 'the bearer is the user\'s');
    assert.equal(seen.headers['x-kept'], 'yes');
    const all = JSON.stringify(seen.rawHeaders);
    for (const gone of ['forged', '6.6.6.6', 'evil.test', 'root', 'secret', 'cloakroom', ticket(), 'Basic x']) {
      assert.ok(!all.toLowerCase().includes(gone.toLowerCase()), `${gone} in ${all}`);
    }
    assert.equal(seen.headers['x-forwarded-for'], '127.0.0.1');
    assert.equal(seen.headers['x-forwarded-host'], `127.0.0.1:${port()}`);
    assert.equal(seen.headers['x-forwarded-proto'], 'http');
  });

  test('an upstream sets none of our cookies', async () => {
    const answer = await client.get('/api/plant');
    assert.equal(answer.status, 200);
    assert.deepEqual(answer.headers['set-cookie'], ['own=1; Path=/']);
    await until('the audit event', () => world.logs().includes('cookie_dropped'));
  });

  test('return_to: nothing but a path on this origin', async () => {
    for (const to of ['//evil.test', '/\\evil.test', 'https://evil.test', '/%2f/evil.test', 'javascript:alert(1)', '\t/evil', '/x\r\ny', '/..//evil.test', '///evil.test', '/\t/evil.test', 'evil']) {
      const q = encodeURIComponent(to);
      assert.equal((await client.get(`/auth/login?return_to=${q}`)).status, 400, to);
      assert.equal((await client.get(`/auth/login/redirect?return_to=${q}`, { headers: { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' } })).status, 400, to);
      const answer = await client.post('/auth/login', { form: { username: 'alice', password: world.users.alice, return_to: to } });
      assert.deepEqual([answer.status, answer.headers.location], [303, '/'], to);
    }
  });

  test('without Fetch metadata: the Origin or the header X-Cloakroom, else 403', async () => {
    const old = (headers) => raw([`POST /auth/session/touch HTTP/1.1`, `Host: 127.0.0.1:${port()}`, `Cookie: ${world.cookie}=${ticket()}`, 'Content-Length: 0', 'Connection: close', ...headers, '', ''].join('\r\n'));
    assert.equal((await old([])).status, 403);
    assert.equal((await old(['Origin: null'])).status, 403);
    assert.equal((await old(['Origin: https://evil.test'])).status, 403);
    assert.equal((await old([`Origin: ${world.origin}.evil.test`])).status, 403);
    assert.equal((await old([`Origin: ${world.origin}`])).status, 200);
    assert.equal((await old(['X-Cloakroom: 1'])).status, 200);
    assert.equal((await old(['X-Cloakroom: 1', 'Sec-Fetch-Site: cross-site'])).status, 403);
    assert.equal((await old([`Origin: ${world.origin}`, 'Sec-Fetch-Site: same-site'])).status, 403);
  });
});

describe('a provider that is down at start', { timeout: 120_000 }, () => {
  test('serve starts, says what is wrong, and logs in when the provider is back', async () => {
    const world = await startWorld('certified', { name: 'down', plain: true, providerDown: true });
    try {
      const client = world.client();
      const answer = await client.post('/auth/login', { json: { username: 'alice', password: world.users.alice } });
      assert.equal(answer.status, 503);
      assert.equal(answer.json().code, 'provider_unavailable');
      assert.ok(Number(answer.headers['retry-after']) > 0);
      assert.equal((await client.get('/')).status, 200);
      world.provider.state.down = false;
      await until('a login', async () => (await client.post('/auth/login', { json: { username: 'alice', password: world.users.alice } })).status === 200, { within: 60_000, every: 500 });
      client.close();
    } finally { await world.close(); }
  });
});

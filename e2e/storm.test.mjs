// The headline of refresh: one token request, whatever the number of calls. Plain http on loopback, the real binary,
// one-time refresh tokens whose reuse ends the whole grant.
import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from './lib/net.mjs';
import { startWorld } from './lib/world.mjs';

const CALLS = 200;
const LIFE = 2;

describe('storm', { timeout: 120_000 }, () => {
  let world;
  before(async () => { world = await startWorld('certified', { name: 'storm', accessLife: LIFE, plain: true, race: true }); });
  after(() => world?.close());

  // expired gives a client whose access token has just run out, with the provider slow enough to be waited for.
  async function expired() {
    const client = world.client();
    client.agent.maxSockets = CALLS;
    await client.login({ username: 'alice', password: world.users.alice });
    await delay(LIFE * 1000 + 100);
    world.provider.state.tokenDelay = 300;
    return client;
  }

  test(`${CALLS} calls just past expiry: 1 token request, ${CALLS} times 200`, async () => {
    const client = await expired();
    const [asked, arrived] = [await world.refreshes(), await world.arrived()];
    const answers = await Promise.all(Array.from({ length: CALLS }, (_, i) => client.get(`/api/storm?${i}`)));
    assert.deepEqual(tally(answers.map((a) => a.status)), { 200: CALLS });
    assert.equal((await world.refreshes()) - asked, 1);
    assert.equal((await world.arrived()) - arrived, CALLS);
    assert.deepEqual(world.provider.refused, []);
    client.close();
  });

  test('the same with half of the clients gone at once: 1 token request, the others all 200, and the session lives on', async () => {
    const client = await expired();
    const asked = await world.refreshes();
    const gone = new AbortController();
    setMaxListeners(CALLS, gone.signal);
    const calls = Array.from({ length: CALLS }, (_, i) => client.get(`/api/storm?${i}`, i % 2 === 0 ? { signal: gone.signal } : {}).then((a) => a.status, () => 'gone'));
    await delay(100); // all are waiting for the token by now
    gone.abort();
    assert.deepEqual(tally(await Promise.all(calls)), { 200: CALLS / 2, gone: CALLS / 2 });
    assert.equal((await world.refreshes()) - asked, 1);
    world.provider.state.tokenDelay = 0;
    for (let i = 0; i < 6; i++) {
      assert.equal((await client.get('/api/hello')).status, 200);
      await delay(500);
    }
    assert.deepEqual(world.provider.refused, []);
    client.close();
  });

  test('all clients gone: the refresh is finished and saved all the same', async () => {
    const client = await expired();
    const asked = await world.refreshes();
    const gone = new AbortController();
    setMaxListeners(CALLS, gone.signal);
    const calls = Array.from({ length: 20 }, () => client.get('/api/storm', { signal: gone.signal }).then((a) => a.status, () => 'gone'));
    await delay(100);
    gone.abort();
    assert.deepEqual(tally(await Promise.all(calls)), { gone: 20 });
    await until('the refresh', async () => (await world.refreshes()) === asked + 1);
    world.provider.state.tokenDelay = 0;
    await delay(50);
    assert.equal((await client.get('/api/hello')).status, 200);
    assert.equal(await world.refreshes(), asked + 1);
    client.close();
  });

  test('provider down past expiry: 503 with Retry-After, and the session is there when it is back', async () => {
    const client = await expired();
    world.provider.state.tokenDelay = 0;
    world.provider.state.down = true;
    const answer = await client.get('/api/hello');
    assert.equal(answer.status, 503);
    assert.equal(answer.json().code, 'provider_unavailable');
    assert.ok(Number(answer.headers['retry-after']) > 0);
    assert.ok(client.cookies.has(world.cookie));
    world.provider.state.down = false;
    await until('the session goes on', async () => (await client.get('/api/hello')).status === 200, { within: 30_000, every: 500 });
    client.close();
  });
});

function tally(values) {
  const counts = {};
  for (const v of values) counts[v] = (counts[v] ?? 0) + 1;
  return counts;
}

// kill -9 in the middle of traffic, restart: every session that was answered for still works.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Child } from './lib/process.mjs';
import { startWorld } from './lib/world.mjs';

const SESSIONS = 60;

describe('crash', { timeout: 120_000 }, () => {
  let world;
  before(async () => { world = await startWorld('certified', { name: 'crash', plain: true, race: true }); });
  after(() => world?.close());

  test('kill -9 during traffic, twice: no session lost, no one logged in that was not', async () => {
    const sessions = [];
    for (let round = 0; round < 2; round++) {
      let stop = false;
      const login = async () => {
        while (!stop) {
          const client = world.client();
          try {
            await client.login({ username: 'alice', password: world.users.alice }, { remember: true });
            sessions.push(client); // only what was answered for counts
          } catch { client.close(); }
        }
      };
      const call = async () => {
        while (!stop) {
          const client = sessions[Math.floor(Math.random() * sessions.length)];
          if (!client) { await delay(5); continue; }
          const status = await client.get('/api/hello').then((a) => a.status, () => 'cut');
          assert.ok(stop || status === 200, `a call during traffic: ${status}`);
        }
      };
      const traffic = [login(), login(), call(), call(), call(), call()];
      const wanted = SESSIONS * (round + 1) / 2;
      while (sessions.length < wanted) await delay(10);
      stop = true;
      await world.child.kill();
      await Promise.all(traffic);
      const begun = Date.now();
      await world.restart();
      assert.ok(Date.now() - begun < 10_000, 'it starts again at once');
      const answers = await Promise.all(sessions.map((c) => c.get('/api/hello').then((a) => a.status)));
      assert.deepEqual(answers, sessions.map(() => 200));
    }
    assert.deepEqual(world.provider.refused, []);
    // and they can all still be refreshed and ended
    world.provider.state.accessLife = 1;
    for (const client of sessions) assert.equal((await client.post('/auth/logout', { json: {} })).status, 200);
    for (const client of sessions) client.close();
  });

  test('a second process on the same store says so and exits with 1', async () => {
    const second = new Child(world.child.args, { cwd: world.dir, env: { SSL_CERT_FILE: world.certs.ca } });
    await assert.rejects(second.start(async () => false), /it exited: {"code":1/);
    assert.match(second.output, /lock|another|in use/i);
    assert.equal(second.output.trim().split('\n').length, 1, `one line, no stack: ${second.output}`);
  });

  test('SIGTERM: drains, and exits with 0', async () => {
    const client = world.client();
    await client.login({ username: 'alice', password: world.users.alice });
    const slow = client.get('/api/slow'); // 300 ms: it is finished (event streams are cut at once)
    await delay(100);
    const how = await world.child.stop();
    assert.deepEqual(how, { code: 0, signal: null });
    assert.equal((await slow).status, 200);
    await world.restart();
    assert.equal((await client.get('/api/hello')).status, 200);
    client.close();
  });
});

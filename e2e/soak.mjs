// `./test -long` only: two minutes of many sessions with access tokens of two seconds, a provider that is slow, down
// for moments, and takes each refresh token once; clients that leave in the middle. No session may be lost, no call of
// a client that stayed may fail but with a 503 in a moment when the provider was down, and memory must not grow.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startWorld } from './lib/world.mjs';

const SESSIONS = 40;
const SECONDS = Number(process.env.SOAK_SECONDS ?? 120);

describe('soak', { timeout: (SECONDS + 120) * 1000 }, () => {
  let world;
  before(async () => { world = await startWorld('certified', { name: 'soak', accessLife: 2, plain: true }); });
  after(() => world?.close());

  test(`${SESSIONS} sessions for ${SECONDS} seconds`, async () => {
    const clients = [];
    for (let i = 0; i < SESSIONS; i++) {
      const client = world.client();
      await client.login({ username: 'alice', password: world.users.alice });
      clients.push(client);
    }
    const end = Date.now() + SECONDS * 1000;
    let troubled = 0; // until when a 503 is fair
    const tally = {};
    const use = async (client) => {
      while (Date.now() < end) {
        const leave = Math.random() < 0.1 ? AbortSignal.timeout(Math.ceil(Math.random() * 50)) : undefined;
        const status = await client.get('/api/soak', { signal: leave }).then((a) => a.status, (err) => (leave ? 'left' : `cut: ${err.message}`));
        tally[status] = (tally[status] ?? 0) + 1;
        assert.ok(status === 200 || status === 'left' || (status === 503 && Date.now() < troubled), `a call got ${status}`);
        await delay(Math.random() * 400);
      }
    };
    const trouble = async () => {
      while (Date.now() < end - 15_000) {
        world.provider.state.tokenDelay = Math.random() * 300;
        await delay(4000 + Math.random() * 4000);
        if (Math.random() < 0.5) continue;
        troubled = Date.now() + 40_000; // an outage, and the back-off after it
        world.provider.state.down = true;
        await delay(1000);
        world.provider.state.down = false;
      }
      world.provider.state.tokenDelay = 0;
    };
    const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${world.child.child.pid}/status`, 'utf8'))[1]) * 1024;
    const grown = async () => { await delay(SECONDS * 300); const early = memory(); await delay(SECONDS * 600); return memory() - early; };
    const [growth] = await Promise.all([grown(), trouble(), ...clients.map(use)]);
    console.log('soak:', tally, 'refreshes', await world.refreshes(), 'memory', growth);
    assert.deepEqual(world.provider.refused, []);
    assert.ok(growth < 32 << 20, `memory grew by ${growth} bytes`);
    for (const client of clients) { assert.equal((await (await client.get('/auth/session')).json()).authenticated, true); client.close(); }
  });
});

// The scenarios of compare.mjs as tests: three processes on one real store, a provider with one-time refresh tokens, 600
// calls past the end of the access token. GUARANTEE=long runs all of them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cloakroom, startContender } from './lib/contender.mjs';
import { scenarios } from './lib/scenarios.mjs';

const LONG = process.env.GUARANTEE === 'long';
const SHORT = ['600 calls, provider 0.3 s', '600 calls, provider 3 s, half leave'];
const parallel = scenarios.filter((s) => !s.name.startsWith('killed') && (LONG || SHORT.includes(s.name)));

for (const store of ['redis', 'postgres']) {
  describe(`the guarantee on ${store}`, { timeout: 600_000 }, () => {
    for (const s of parallel) {
      test(`${s.name}, ${s.replicas} processes: 1 token request, nobody is refused`, async (t) => {
        const row = await run(store, s);
        t.diagnostic(`slowest ${row.slowest} ms`);
        const stay = s.calls - (s.gone ?? 0);
        assert.deepEqual({ asked: row.asked, refused: row.refused, answers: row.answers, then: row.then, later: row.later }, {
          asked: '1', refused: '0', answers: s.gone ? `200 ×${stay}, left ×${s.gone}` : `200 ×${stay}`, then: `200 ×${s.replicas}`, later: `200 ×${s.replicas}`,
        });
      });
    }
    for (const s of LONG ? scenarios.filter((one) => one.name.startsWith('killed')) : []) {
      test(`${s.name}: served, or ended as the provider's rule demands, within a lease`, async (t) => {
        const row = await run(store, s);
        t.diagnostic(`${row.answers}, ${row.asked} token requests`);
        assert.match(row.answers, s.reuse || s.name === 'killed when all is done' ? /^200 after ([0-9]|[1-4][0-9])\./ : /^401 after ([0-9]|[1-4][0-9])\./);
        assert.equal(row.refused, 0);
        if (row.answers.startsWith('200')) assert.equal(row.later, 200);
      });
    }
  });
}

async function run(store, s) {
  const world = await startContender(cloakroom(store), { replicas: s.replicas, life: s.life ?? 4, reuse: s.reuse });
  try { return await s.run(world, s); } finally { await world.close(); }
}

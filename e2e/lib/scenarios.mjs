// The scenarios of compare.mjs. Each one logs somebody in, lets the access token end, and does something with the refresh
// that follows; it returns a row of the table.
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

// tally is "200 ×6", or "200 ×1, 401 ×5".
export function tally(values) {
  const counts = {};
  for (const v of values) counts[v] = (counts[v] ?? 0) + 1;
  return Object.entries(counts).map(([v, n]) => `${v} ×${n}`).join(', ');
}

// expired logs in and waits until the access token is over.
async function expired(world) {
  const cookies = await world.login();
  await delay(world.provider.state.accessLife * 1000 + 150);
  return cookies;
}

const status = (answer) => (answer.status < 400 && answer.status !== 200 ? 'login' : answer.status);

// once asks each process one time.
async function once(world, cookies) {
  const answers = [];
  for (let n = 0; n < world.children.length; n++) {
    const client = world.client(n, new Map(cookies));
    answers.push(await client.get('/api/once').then(status, () => 'cut'));
    client.close();
  }
  return answers;
}

// burst sends so many calls at the same moment, in turn to each process; gone of them leave after so many milliseconds.
async function burst(world, cookies, { calls, gone = 0, leave = 0 }) {
  const clients = world.children.map((_, n) => world.client(n, new Map(cookies)));
  await Promise.all(Array.from({ length: calls }, (_, i) => clients[i % clients.length].get('/', { headers: { cookie: '' } }))); // connections
  const left = new AbortController();
  setMaxListeners(calls + 1, left.signal);
  const began = performance.now();
  let slowest = 0;
  const all = Array.from({ length: calls }, (_, i) => {
    const leaves = i < gone;
    return clients[i % clients.length].get('/api/burst', leaves ? { signal: left.signal } : {}).then((a) => {
      if (!leaves) slowest = Math.max(slowest, performance.now() - began);
      return status(a);
    }, () => (leaves ? 'left' : 'cut'));
  });
  if (gone > 0) { await delay(leave); left.abort(); }
  const answers = await Promise.all(all);
  for (const c of clients) c.close();
  return { answers, slowest };
}

// parallel: many calls find the token over at once.
async function parallel(world, s) {
  const rounds = [];
  for (let round = 0; round < (s.rounds ?? 1); round++) {
    const cookies = await expired(world);
    const { provider } = world;
    provider.state.tokenDelay = s.delay;
    const [asked, refused] = [provider.counts.refresh_token ?? 0, provider.refused.length];
    const { answers, slowest } = await burst(world, cookies, s);
    await delay(s.gone ? s.delay + 300 : 100); // what nobody waits for is finished, too
    const row = { asked: (provider.counts.refresh_token ?? 0) - asked, refused: provider.refused.length - refused, answers: tally(answers), slowest: Math.round(slowest) };
    provider.state.tokenDelay = 0;
    row.then = tally(await once(world, cookies));
    await delay(provider.state.accessLife * 1000 + 150);
    row.later = tally(await once(world, cookies));
    rounds.push(row);
  }
  const all = (key) => [...new Set(rounds.map((r) => r[key]))].join(' / ');
  return { name: s.name, replicas: s.replicas, asked: all('asked'), refused: all('refused'), answers: all('answers'), slowest: Math.max(...rounds.map((r) => r.slowest)), then: all('then'), later: all('later') };
}

// killed: the process that refreshes is killed before the provider does anything, between its doing and its answer, or
// after that. The other one goes on, if that is possible: the row says after how long, and how.
async function killed(world, s) {
  const cookies = await expired(world);
  const { provider, children } = world;
  const asked = provider.counts.refresh_token ?? 0;
  Object.assign(provider.state, s.slow, { rotates: !s.reuse });
  const one = world.client(0, new Map(cookies));
  const cut = one.get('/api/killed').then(status, () => 'cut');
  await delay(s.after);
  await children[0].kill();
  const began = performance.now();
  await cut;
  one.close();
  const other = world.client(1, new Map(cookies));
  let answer;
  let waits = 0;
  do {
    answer = await other.get('/api/killed').catch(() => ({ status: 'cut' }));
    if (answer.status === 503) { waits++; await delay(Math.min(5000, 1000 * Number(answer.headers['retry-after'] ?? 1))); }
  } while (answer.status === 503 && performance.now() - began < 120_000);
  const row = { name: s.name, replicas: 2, asked: (provider.counts.refresh_token ?? 0) - asked, refused: provider.refused.length, answers: `${status(answer)} after ${((performance.now() - began) / 1000).toFixed(1)} s${waits ? `, ${waits} ×503 before` : ''}` };
  Object.assign(provider.state, { tokenDelay: 0, answerDelay: 0 });
  if (answer.status === 200) {
    await delay(provider.state.accessLife * 1000 + 150);
    row.later = status(await other.get('/api/killed'));
  }
  other.close();
  return row;
}

const three = (seconds, more = {}) => ({
  name: `600 calls, provider ${seconds} s${more.gone ? ', half leave' : ''}`, run: parallel, replicas: 3, calls: 600, delay: seconds * 1000, leave: Math.min(seconds * 500, 3000), ...more,
});

export const scenarios = [
  { name: '6 calls, provider 0.3 s', run: parallel, replicas: 2, calls: 6, delay: 300 },
  { name: '6 calls, provider 3 s', run: parallel, replicas: 2, calls: 6, delay: 3000 },
  { name: '6 calls, provider 1.5 s, one leaves after 0.5 s', run: parallel, replicas: 2, calls: 6, delay: 1500, gone: 1, leave: 500 },
  { name: '6 calls, one process, provider 0.3 s', run: parallel, replicas: 1, calls: 6, delay: 300 },
  { name: 'stampede: 200 calls, provider 50 ms', run: parallel, replicas: 1, calls: 200, delay: 50, rounds: 3 },
  { name: 'stampede: 200 calls, provider 50 ms', run: parallel, replicas: 2, calls: 200, delay: 50, rounds: 3 },
  three(0.3), three(0.3, { gone: 300 }), three(3), three(3, { gone: 300 }),
  three(20, { long: true }), three(20, { gone: 300, long: true }),
  { name: 'killed before the provider acts', run: killed, replicas: 2, slow: { tokenDelay: 1000 }, after: 500, long: true },
  { name: 'killed between the provider\'s act and its answer', run: killed, replicas: 2, slow: { answerDelay: 1000 }, after: 500, long: true },
  { name: 'killed before the provider acts; it does not rotate', run: killed, replicas: 2, slow: { tokenDelay: 1000 }, after: 500, reuse: 'harmless', long: true },
  { name: 'killed when all is done', run: killed, replicas: 2, slow: { tokenDelay: 1000 }, after: 1300, long: true },
];

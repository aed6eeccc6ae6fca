// Three processes on one store, real Redis and real PostgreSQL: an end on one is an end on all within a second, and a
// store that dies, is full, or holds a broken record logs nobody out.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from './lib/net.mjs';
import { startWorld } from './lib/world.mjs';

const SESSIONS = Number(process.env.FLEET_SESSIONS ?? 1000);
const ROUNDS = 50;

for (const store of ['redis', 'postgres']) {
  describe(`fleet on ${store}`, { timeout: 240_000 }, () => {
    let world, sessions;
    before(async () => { world = await startWorld('certified', { name: `fleet-${store}`, plain: true, store }); });
    after(() => world?.close());

    // at is the same browser, asking one process.
    const at = (client, n) => world.client({ port: world.child.ports[n], cookies: client.cookies });
    const login = async (n) => {
      const client = world.client({ port: world.child.ports[n] });
      await client.login({ username: 'alice', password: world.users.alice });
      return client;
    };

    test(`logout on one is heard and obeyed by the others: ${ROUNDS} rounds`, async (t) => {
      const [heard, obeyed] = [[], []];
      for (let round = 0; round < ROUNDS; round++) {
        const client = await login(round % 3);
        const others = [at(client, (round + 1) % 3), at(client, (round + 2) % 3)];
        let ended = 0;
        const events = others.map((o) => new Promise((done) => { o.events((type) => { if (type === 'session_ended') done(performance.now()); }); }));
        await Promise.all(others.map((o) => o.get('/api/hello').then((a) => assert.equal(a.status, 200)))); // cached there
        await delay(20); // the streams are open
        const same = others.map((o) => o.cookies.get(world.cookie));
        assert.equal((await client.post('/auth/logout', { json: {} })).status, 200);
        ended = performance.now();
        const dead = others.map(async (o, i) => {
          const cookie = `${world.cookie}=${same[i]}`; // the browser gave it up; a thief did not
          await until('a 401', async () => (await o.get('/api/hello', { headers: { cookie } })).status === 401, { within: 5000, every: 1 });
          return performance.now();
        });
        for (const when of await Promise.all(events)) heard.push(when - ended);
        for (const when of await Promise.all(dead)) obeyed.push(when - ended);
        for (const c of [client, ...others]) c.close();
      }
      for (const [what, times] of [['heard by streams', heard], ['401', obeyed]]) {
        times.sort((a, b) => a - b);
        const p = (q) => times[Math.min(times.length - 1, Math.floor(times.length * q))].toFixed(1);
        t.diagnostic(`${store}: ${what} after p50 ${p(0.5)} ms, p99 ${p(0.99)} ms, most ${p(1)} ms, of ${times.length}`);
        assert.ok(times.at(-1) < 1000, `${what}: ${p(1)} ms`);
      }
    });

    test(`${SESSIONS} sessions are made on all of them`, async () => {
      sessions = [];
      await Promise.all(Array.from({ length: 40 }, async (_, i) => {
        while (sessions.length < SESSIONS) sessions.push(await login(i % 3));
      }));
    });

    // ask calls the API with a client's cookies at one process; everyone does so for each session, at changing ones.
    const direct = [];
    const ask = (client, n) => {
      direct[n] ??= world.client({ port: world.child.ports[n] });
      const cookie = [...client.cookies].map(([k, v]) => `${k}=${v}`).join('; ');
      return direct[n].get('/api/hello', { headers: { cookie } });
    };
    const everyone = async () => {
      const tally = {};
      for (let i = 0; i < sessions.length; i += 50) {
        await Promise.all(sessions.slice(i, i + 50).map(async (c, k) => {
          const { status } = await ask(c, (i + k) % 3);
          tally[status] = (tally[status] ?? 0) + 1;
        }));
      }
      return tally;
    };
    test('the store is killed and started again under load: 200 or 503, nobody is logged out, nothing is lost', async (t) => {
      assert.deepEqual(await everyone(), { 200: sessions.length });
      const tally = {};
      let stop = false;
      const load = Array.from({ length: 16 }, async (_, i) => {
        while (!stop) {
          const answer = await ask(sessions[Math.floor(Math.random() * sessions.length)], i % 3);
          tally[answer.status] = (tally[answer.status] ?? 0) + 1;
          if (answer.status === 503) assert.ok(Number(answer.headers['retry-after']) > 0, 'a 503 says when to come again');
          await delay(5);
        }
      });
      await delay(1000);
      await world.shared.kill();
      await delay(3000);
      await world.shared.start();
      await delay(4000);
      stop = true;
      await Promise.all(load);
      t.diagnostic(`${store}: ${JSON.stringify(tally)}`);
      assert.deepEqual(Object.keys(tally).filter((status) => status !== '200' && status !== '503'), [], JSON.stringify(tally));
      await until('everyone is served again', async () => { assert.deepEqual(await everyone(), { 200: sessions.length }); return true; }, { within: 30_000, every: 500 });
    });

    test('a process is killed in the middle of logins and logouts: what was acknowledged holds on the others', async () => {
      const [made, ended] = [[], []];
      let stop = false;
      const traffic = Array.from({ length: 8 }, async () => {
        while (!stop) {
          try {
            const client = await login(0);
            made.push(client);
            if (Math.random() < 0.5) {
              const cookie = `${world.cookie}=${client.cookies.get(world.cookie)}`;
              made.splice(made.indexOf(client), 1); // neither, until it is answered
              if ((await client.post('/auth/logout', { json: {} })).status === 200) ended.push(cookie);
            }
          } catch { /* cut */ }
        }
      });
      await until('some of both', () => made.length > 20 && ended.length > 20, { within: 60_000 });
      stop = true;
      await world.child.children[0].kill();
      await Promise.all(traffic);
      const other = world.client({ port: world.child.ports[1] });
      for (const client of made) assert.equal((await ask(client, 1)).status, 200);
      for (const cookie of ended) assert.equal((await other.get('/api/hello', { headers: { cookie } })).status, 401);
      other.close();
    });

    test('a process that starts while the store is down serves when it is there', async () => {
      await world.shared.kill();
      const answers = () => world.client({ port: world.child.ports[0] }).get('/auth/session').then((a) => a.status);
      await world.child.children[0].start(async () => [200, 503].includes(await answers()));
      assert.equal((await ask(sessions[0], 0)).status, 503);
      await world.shared.start();
      await until('it serves', async () => (await ask(sessions[0], 0)).status === 200, { within: 30_000 });
      await until('everyone is served again', async () => { assert.deepEqual(await everyone(), { 200: sessions.length }); return true; }, { within: 30_000, every: 500 });
    });

    if (store === 'redis') {
      const cli = (...args) => execFileSync('redis-cli', ['-p', String(world.shared.port), ...args], { encoding: 'utf8' });

      test('a store that is full: no login, a clear answer, and live sessions go on', async () => {
        cli('config', 'set', 'maxmemory', '1');
        await assert.rejects(login(1), /503/);
        assert.deepEqual(await everyone(), { 200: sessions.length });
        cli('config', 'set', 'maxmemory', '0');
        (await login(1)).close();
      });

      test('a broken record takes one session with it, and is told', async () => {
        const victim = await login(1);
        const id = (await victim.get('/auth/session')).json().session.id;
        const key = `cr:{${Buffer.from(id, 'base64url').toString('hex')}}`;
        const length = Number(cli('strlen', key));
        cli('setrange', key, String(length - 40), 'broken');
        await world.child.children[1].stop();
        await world.child.children[1].start(async () => (await world.client({ port: world.child.ports[1] }).get('/auth/session')).status === 200);
        assert.equal((await ask(victim, 1)).status, 401);
        assert.match(world.child.output, /record_corrupt/);
        assert.deepEqual(await everyone(), { 200: sessions.length });
        victim.close();
      });
    }
  });
}

// What happens when an access token ends while many ask, with one-time refresh tokens whose reuse ends the whole grant?
// Runs the scenarios in which comparable products lose sessions, against Cloakroom or any product given by its command
// line, and prints one table. Real processes, real Redis or PostgreSQL, a certified provider.
//
//   node compare.mjs                             Cloakroom on Redis
//   node compare.mjs --store postgres            or on PostgreSQL, or file
//   node compare.mjs --long                      with the provider that takes 20 s, and the processes that are killed
//   node compare.mjs --name oauth2-proxy --store redis --login '/oauth2/start?rd=/' --callback /oauth2/callback \
//     --command 'oauth2-proxy --http-address=127.0.0.1:{port} --upstream={upstream} … --redis-connection-url={redis}'
//
// {port} this process's; {origin} the app as browsers see it; {issuer} {client_id} {client_secret} the provider's;
// {upstream} the API; {redis} or {url} the store; {secret} 32 characters that the processes share; {life} of an access token
// in seconds, {refresh} one less; {dir} a folder; {n} the process's number. The API takes the token as a bearer or in
// X-Forwarded-Access-Token. Without a store that processes share, scenarios with several of them still run: that is what
// somebody gets who starts a second one.
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cloakroom, startContender, stranger } from './lib/contender.mjs';
import { scenarios } from './lib/scenarios.mjs';

const { values: o } = parseArgs({ options: {
  command: { type: 'string' }, name: { type: 'string', default: 'the other' }, store: { type: 'string' }, login: { type: 'string', default: '/' },
  callback: { type: 'string', default: '/auth/callback' }, only: { type: 'string' }, long: { type: 'boolean', default: false },
} });
const product = o.command
  ? stranger({ name: o.name, template: o.command, login: o.login, callback: o.callback, shared: o.store })
  : cloakroom(o.store ?? 'redis');
const alone = !product.shared && !o.command; // a file belongs to one process

const rows = [];
for (const s of scenarios.filter((one) => (o.long || !one.long) && (!o.only || one.name.includes(o.only)) && !(alone && one.replicas > 1))) {
  process.stderr.write(`${s.name} …\n`);
  const world = await startContender(product, { replicas: s.replicas, life: s.life ?? 4, reuse: s.reuse });
  try {
    rows.push(await s.run(world, s));
  } catch (err) {
    rows.push({ name: s.name, note: err.message.split('\n')[0] });
  } finally { await world.close(); }
  await delay(50);
}

const columns = ['name', 'replicas', 'asked', 'refused', 'answers', 'slowest', 'then', 'later', 'note'];
const heads = ['scenario', 'processes', 'token requests', 'refused', 'answers', 'slowest, ms', 'right after', 'after the next end', ''];
console.log(`\n**${product.name}**\n\n| ${heads.join(' | ')} |\n|${'---|'.repeat(heads.length)}`);
for (const row of rows) console.log(`| ${columns.map((c) => row[c] ?? '').join(' | ')} |`);

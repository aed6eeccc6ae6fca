// A contender is a product under comparison: some processes of it in front of a strict API, and how somebody logs in there.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { Client } from './http.mjs';
import { freePort, listen, until } from './net.mjs';
import { CLIENT, startProvider, USERS } from './op.mjs';
import { binary, workDir } from './process.mjs';
import { startStore } from './store.mjs';

const q = JSON.stringify;

// cloakroom is what the command line says of any other product: how a process is started, and where login begins.
export function cloakroom(store) {
  return {
    name: `Cloakroom, ${store}`, login: '/auth/login/redirect?return_to=/', callback: '/auth/callback', shared: store === 'file' ? undefined : store,
    command({ port, origin, issuer, upstream, url, secret, dir, n, reuse }) {
      const file = path.join(dir, `cloakroom-${n}.yaml`);
      fs.writeFileSync(file, `listen: ${q(`127.0.0.1:${port}`)}
store: ${q(url ?? `file:${path.join(dir, 'sessions.db')}`)}
keys: [${q(Buffer.from(secret).toString('base64'))}]
admin: {listen: ""}
log: {requests: none, format: json}
frontends:
  - url: ${q(origin)}
    providers:
      - {issuer: ${q(issuer)}, client_id: ${q(CLIENT.id)}, client_secret: ${q(CLIENT.secret)}, refresh_reuse: ${reuse}}
    routes:
      - {path: /api/, upstream: ${q(upstream)}}
      - {path: /, upstream: ${q(upstream)}, session: optional}
`);
      return [binary(), 'serve', '--config', file];
    },
  };
}

// stranger is a product given by its command line, with {placeholders}.
export function stranger({ name, template, login, callback, shared }) {
  return {
    name, login, callback, shared,
    command(values) { return ['/bin/sh', '-c', `exec ${template.replace(/\{(\w+)\}/g, (_, key) => { if (!(key in values)) throw new Error(`no {${key}}`); return values[key]; })}`]; },
  };
}

// startAPI is an API that takes a living access token, as a bearer or in oauth2-proxy's header; anything else is 401.
async function startAPI(valid) {
  const server = http.createServer((req, res) => {
    req.resume();
    const token = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1] ?? req.headers['x-forwarded-access-token'];
    const ok = !req.url.startsWith('/api/') || (token !== undefined && valid(token));
    res.writeHead(ok ? 200 : 401, { 'content-type': 'application/json' }).end('{}');
  });
  const port = await listen(server);
  return { url: `http://127.0.0.1:${port}`, close: () => { server.close(); server.closeAllConnections(); } };
}

// startContender starts replicas of it, with a provider whose tokens live for so many seconds.
export async function startContender(product, { replicas, life, reuse = 'none' }) {
  const dir = workDir('compare');
  const ports = [];
  while (ports.length <= replicas) ports.push(await freePort());
  const origin = `http://127.0.0.1:${ports.pop()}`; // as a browser would see it; requests go to the processes themselves
  const provider = await startProvider({ app: origin, callback: product.callback, accessLife: life });
  const api = await startAPI(provider.valid);
  const shared = product.shared && await startStore(product.shared);
  const common = {
    origin, issuer: provider.issuer, upstream: api.url, url: shared?.url, redis: shared?.url, dir, life, reuse, refresh: Math.max(1, life - 1),
    client_id: CLIENT.id, client_secret: CLIENT.secret, secret: randomBytes(16).toString('hex'),
  };
  const children = ports.map((port, n) => new Process(product.command({ ...common, port, n, client_secret: `'${CLIENT.secret}'` }), dir, port));
  await Promise.all(children.map((c) => c.start()));
  return {
    provider, children, origin,
    // client asks one process, as the browser of these cookies.
    client: (n, cookies) => new Client(origin, { port: ports[n], cookies, sockets: 400 }),
    async login() {
      const app = new Client(origin, { port: ports[0] });
      const op = new Client(provider.issuer);
      await walk(app, op, product.login);
      for (const c of [app, op]) c.close();
      return app.cookies;
    },
    async close() {
      await Promise.all(children.map((c) => c.stop()));
      await shared?.close();
      api.close();
      await provider.close();
    },
  };
}

class Process {
  constructor([file, ...args], dir, port) { Object.assign(this, { file, args, dir, port, output: '' }); }

  async start() {
    this.child = spawn(this.file, this.args, { cwd: this.dir, stdio: ['ignore', 'pipe', 'pipe'] });
    this.exited = new Promise((done) => { this.child.on('exit', done); });
    for (const out of [this.child.stdout, this.child.stderr]) out.setEncoding('utf8').on('data', (text) => { this.output += text; });
    const probe = new Client(`http://127.0.0.1:${this.port}`);
    await until('it answers', () => probe.get('/').then(() => true), { within: 30_000 }).catch((err) => { throw new Error(`${err.message}\n${this.output}`); });
    probe.close();
  }

  kill(signal = 'SIGKILL') { this.child.kill(signal); return this.exited; }

  async stop() {
    const insist = setTimeout(() => this.child.kill('SIGKILL'), 5000);
    await this.kill('SIGTERM');
    clearTimeout(insist);
  }
}

// walk follows redirects between the app and the provider as a browser does, and logs in at the provider's form.
async function walk(app, op, begin) {
  const page = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-fetch-site': 'none', accept: 'text/html' };
  let url = new URL(begin, app.origin);
  for (let hop = 0; hop < 20; hop++) {
    const at = url.origin === app.origin ? app : op;
    let answer = await at.get(url.pathname + url.search, { headers: page });
    if (at === op && answer.text.includes('name="password"')) {
      answer = await op.post(url.pathname, { form: { username: 'alice', password: USERS.alice }, headers: { ...page, origin: op.origin } });
    }
    const next = answer.headers.location ?? /http-equiv="?refresh"?[^>]*url=([^">]+)/i.exec(answer.text)?.[1]?.replaceAll('&amp;', '&');
    if (next) url = new URL(next, url);
    else if (at === app && answer.status === 200) return;
    else throw new Error(`login ends at ${url} with ${answer.status}: ${answer.text.slice(0, 300)}`);
  }
  throw new Error('login goes round in circles');
}

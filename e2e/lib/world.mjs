// A world is everything one test file needs: a provider, the API, Cloakroom in front, and how to log in there.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { startAPI } from './api.mjs';
import { makeCerts } from './certs.mjs';
import { Client } from './http.mjs';
import { freePort } from './net.mjs';
import { CLIENT, startProvider, USERS } from './op.mjs';
import { Child, ROOT, workDir } from './process.mjs';
import { Fleet } from './fleet.mjs';
import { startStore } from './store.mjs';
import { demoLogin, demoLogout, startDemoProvider } from './demo.mjs';

// The suite runs once per provider: the certified third-party one, and the demo's own.
export const PROVIDERS = (process.env.E2E_PROVIDERS ?? 'certified,demo').split(',');

// E2E_STORE=redis or postgres puts three processes on that store, behind a round robin, in the place of one on a file.
export const STORE = process.env.E2E_STORE ?? 'file';
const REPLICAS = 3;

// startWorld(kind, {name, accessLife, accessFormat, plain, login}) starts one. plain: http on loopback instead of https.
export async function startWorld(kind, { name, accessLife = 300, accessFormat = 'opaque', plain = false, race = false, frontend = '', providerDown = false, store = STORE, profile = 'generic', audience = '', scopes = [], routes = '' }) {
  const dir = workDir(name);
  const certs = makeCerts(dir);
  const port = await freePort();
  const origin = plain ? `http://127.0.0.1:${port}` : `https://app.test:${port}`;
  const provider = await (kind === 'demo' ? startDemoProvider : startProvider)({ certs, app: origin, accessLife, accessFormat });
  provider.state.down = providerDown;
  const api = await startAPI({ valid: provider.valid });
  const common = { dir, origin, provider, api, certs, plain, frontend, profile, audience, scopes, routes: routes.replaceAll('UPSTREAM', q(api.url)) };
  const shared = store === 'file' ? undefined : await startStore(store);
  const child = await processes({ ...common, shared, port, race });
  const client = (more) => new Client(origin, { ca: certs.cert && fs.readFileSync(certs.ca), ...more });
  const ready = async () => {
    const probe = client();
    try { return (await probe.get('/auth/session')).status === 200; } finally { probe.close(); }
  };
  await child.start(ready);
  return {
    kind, origin, dir, accessLife, certs, provider, api, child, client, shared, users: USERS, secure: !plain,
    cookie: plain ? `cloakroom-${port}` : '__Host-Http-cloakroom',
    secrets: () => provider.secrets,
    // arrived counts what reached the API, and state what changed at the provider.
    arrived: async (mark = '') => api.requests.filter((r) => r.url.includes(mark)).length,
    logins: async () => (provider.counts.password ?? 0) + (provider.counts.authorization_code ?? 0),
    refreshes: async () => provider.counts.refresh_token ?? 0,
    logs: () => child.output,
    restart: () => child.start(ready),
    hostedLogin: kind === 'demo' ? demoLogin : hostedLogin,
    hostedLogout: kind === 'demo' ? demoLogout : hostedLogout,
    close: async () => {
      await child.stop();
      await shared?.close();
      await api.close();
      await provider.close();
      assert.deepEqual(child.faults(), []);
    },
  };
}

// The two pages of the certified provider, as a person uses them.
async function hostedLogin(page, username, password) {
  await page.locator('input[name=username]').fill(username);
  await page.locator('input[name=password]').fill(password);
  await page.locator('#op-submit').click();
}

async function hostedLogout(page) { await page.locator('#op-logout').click(); }

// processes is what serves the app: one process, or a fleet.
async function processes({ shared, port, race, ...common }) {
  const { dir, certs, plain } = common;
  const options = { cwd: dir, race, env: { SSL_CERT_FILE: certs.ca } };
  const write = (name, text) => { fs.writeFileSync(path.join(dir, name), text); return path.join(dir, name); };
  if (!shared) {
    const tls = plain ? '' : `tls: {cert_file: ${q(certs.certFile)}, key_file: ${q(certs.keyFile)}}`;
    const top = `${tls}\nstore: ${q(`file:${path.join(dir, 'sessions.db')}`)}`;
    return new Child(['serve', '--config', write('cloakroom.yaml', configuration({ ...common, port, top }))], options);
  }
  const ports = [];
  while (ports.length < REPLICAS) ports.push(await freePort());
  const top = `store: ${q(shared.url)}\nkeys: [${q(randomBytes(32).toString('base64'))}]\ntrusted_proxies: [127.0.0.1/32]`;
  const files = ports.map((p, i) => write(`cloakroom-${i}.yaml`, configuration({ ...common, port: p, top })));
  return new Fleet(files, ports, port, plain ? undefined : certs, options);
}

const q = JSON.stringify;

function configuration({ port, origin, provider, api, frontend, profile, routes, audience, scopes, top }) {
  return `listen: ${q(`127.0.0.1:${port}`)}
${top}
admin: {listen: ""}
limits: {per_account: 100000/1m, per_address: 100000/1m}
log: {requests: all, format: json}
frontends:
  - url: ${q(origin)}
    providers:
      - issuer: ${q(provider.issuer)}
        client_id: ${q(CLIENT.id)}
        client_secret: ${q(CLIENT.secret)}
        scopes: [${['openid', 'profile', 'email', 'offline_access', ...scopes].map(q)}]
        profile: ${profile}
        audience: ${q(audience)}
        password_login: true
        refresh_reuse: none
    ${frontend}
    routes:
      ${routes}
      - {path: /api/, upstream: ${q(api.url)}}
      - {path: /members/, upstream: ${q(api.url)}, pages: true, token: none}
      - {path: /open/, upstream: ${q(api.url)}, session: none, token: none}
      - {path: /, files: ${q(path.join(ROOT, 'e2e', 'app'))}, session: none}
`;
}

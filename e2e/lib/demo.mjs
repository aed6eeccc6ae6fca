// The demo's own provider, in the shape of op.mjs: the same suite runs against both.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { freePort, until } from './net.mjs';
import { CLIENT, USERS } from './op.mjs';
import { ROOT, RUN } from './process.mjs';

function build() {
  const out = path.join(RUN, 'demoop');
  fs.mkdirSync(RUN, { recursive: true });
  execFileSync('go', ['build', '-o', out, './e2e/demoop'], { cwd: ROOT, stdio: 'inherit' });
  return out;
}

const answers = (url) => new Promise((done) => {
  https.get(url, { rejectUnauthorized: false }, (res) => { res.resume(); done(res.statusCode === 200); }).on('error', () => done(false));
});

export async function startDemoProvider({ certs, app, accessLife = 300 }) {
  const port = await freePort();
  const issuer = `https://127.0.0.1:${port}`;
  const state = { accessLife, revoked: 0 };
  const counts = {};
  const refused = [];
  const notices = []; // what came of each back-channel logout
  const secrets = new Map([[CLIENT.secret, 'client secret'], [encodeURIComponent(CLIENT.secret), 'client secret, encoded']]);
  const expiry = new Map();
  const child = spawn(build(), [
    '-listen', `127.0.0.1:${port}`, '-app', app, '-cert', certs.certFile, '-key', certs.keyFile, '-life', `${accessLife}s`,
    '-client', JSON.stringify(CLIENT), '-users', JSON.stringify(USERS),
  ], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, SSL_CERT_FILE: certs.ca } });
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) note(JSON.parse(line));
  });
  function note({ what, value, act, outcome }) {
    if (value?.length >= 8) secrets.set(value, what);
    if (what === 'access token') expiry.set(value, Date.now() + accessLife * 1000);
    if (act === 'revoke') state.revoked++;
    if (act === 'backchannel_logout') notices.push(outcome);
    if (['password', 'authorization_code', 'refresh_token'].includes(act)) {
      counts[act] = (counts[act] ?? 0) + 1;
      if (outcome !== 'ok') refused.push(`${act}: ${outcome}`);
    }
  }
  await until('demo provider', () => answers(`${issuer}/.well-known/openid-configuration`), { within: 20_000 });
  return {
    issuer, port, state, counts, refused, notices, secrets,
    valid: (token) => (expiry.get(token) ?? 0) > Date.now(),
    known: (token) => expiry.has(token),
    close: () => new Promise((done) => { child.on('exit', done); child.kill('SIGKILL'); }),
  };
}

// Its pages, as a person uses them.
export async function demoLogin(page, username, password) {
  await page.locator('input[name=username]').fill(username);
  await page.locator('input[name=password]').fill(password);
  await page.locator('form[action="/authorize"] button').click();
}

// It asks nothing at a logout.
export async function demoLogout() {}

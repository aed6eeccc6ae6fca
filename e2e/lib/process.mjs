// The binary under test: built once, started with a configuration, its whole output kept, ended by its own pid.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { until } from './net.mjs';

export const ROOT = path.resolve(import.meta.dirname, '..', '..');
export const RUN = path.join(ROOT, 'e2e', '.run');

// workDir makes a folder for one test file's world.
export function workDir(name) {
  fs.mkdirSync(RUN, { recursive: true });
  return fs.mkdtempSync(path.join(RUN, `${name}-`));
}

// binary returns the path of the binary: the one that ./test built, or one built now. race: with the race detector.
export function binary(race = false) {
  const given = process.env[race ? 'CLOAKROOM_RACE_BIN' : 'CLOAKROOM_BIN'];
  if (given) return given;
  const out = path.join(RUN, race ? 'cloakroom-race' : 'cloakroom');
  fs.mkdirSync(RUN, { recursive: true });
  execFileSync('go', ['build', ...(race ? ['-race'] : []), '-o', out, './cmd/cloakroom'], { cwd: ROOT, stdio: 'inherit' });
  return out;
}

// Child is one process with its output.
export class Child {
  constructor(args, { env = {}, cwd, race = false } = {}) {
    this.args = args;
    this.binary = binary(race);
    this.options = { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] };
    this.output = '';
  }

  async start(ready) {
    const child = spawn(this.binary, this.args, this.options);
    this.child = child;
    this.exited = new Promise((done) => { child.on('exit', (code, signal) => done({ code, signal })); });
    this.gone = undefined;
    this.exited.then((how) => { this.gone = how; });
    for (const out of [child.stdout, child.stderr]) {
      out.setEncoding('utf8').on('data', (text) => { this.output += text; });
    }
    await until(`${this.args[0]} ready`, () => {
      if (this.gone) throw Object.assign(new Error(`it exited: ${JSON.stringify(this.gone)}\n${this.output}`), { fatal: true });
      return ready();
    }, { within: 30_000 }).catch((err) => { throw new Error(`${err.message}\n${this.output}`); });
    return this;
  }

  // stop asks it to drain and end (SIGTERM), and insists after ten seconds.
  async stop() {
    if (!this.child || this.gone) return this.gone;
    this.child.kill('SIGTERM');
    const insist = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    const how = await this.exited;
    clearTimeout(insist);
    return how;
  }

  // faults lists what a sound program never writes.
  faults() {
    return this.output.split('\n').filter((line) => /DATA RACE|^panic:|^fatal error:|^goroutine \d+ \[|http: panic serving/.test(line));
  }

  // kill ends it as a power cut would.
  async kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }
}

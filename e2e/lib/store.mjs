// The stores that several processes share, as real servers on loopback: Redis and PostgreSQL. Each has a folder of its
// own outside of the tree (PostgreSQL runs as another user), and is ended by its pid.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { freePort, until } from './net.mjs';

class Server {
  constructor(command, args, { url, port, dir, uid, gid }) {
    Object.assign(this, { command, args, url, port, dir, owner: { uid, gid } });
  }

  async start() {
    this.child = spawn(this.command, this.args, { ...this.owner, cwd: this.dir, stdio: 'ignore' });
    this.exited = new Promise((done) => { this.child.on('exit', done); });
    await until(`${this.command} listens`, () => new Promise((done, fail) => {
      const socket = net.connect(this.port, '127.0.0.1', () => { socket.destroy(); done(true); }).on('error', fail);
    }), { within: 30_000 });
    return this;
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  // close ends it and removes what it kept.
  async close() {
    this.child.kill('SIGINT');
    const insist = setTimeout(() => this.child.kill('SIGKILL'), 5000);
    await this.exited;
    clearTimeout(insist);
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

// find is a program of Debian's, which may be outside of the PATH.
function find(name) {
  const places = [...process.env.PATH.split(':'), '/usr/sbin'];
  try { places.push(...fs.readdirSync('/usr/lib/postgresql').map((v) => `/usr/lib/postgresql/${v}/bin`)); } catch { /* not installed */ }
  const place = places.find((p) => fs.existsSync(path.join(p, name)));
  if (!place) throw new Error(`needs ${name}`);
  return path.join(place, name);
}

async function startRedis() {
  const [port, dir] = [await freePort(), fs.mkdtempSync(path.join(os.tmpdir(), 'cloakroom-redis-'))];
  const args = ['--bind', '127.0.0.1', '--port', port, '--dir', dir, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
  return new Server(find('redis-server'), args.map(String), { url: `redis://127.0.0.1:${port}`, port, dir }).start();
}

async function startPostgres() {
  const [port, dir] = [await freePort(), fs.mkdtempSync(path.join(os.tmpdir(), 'cloakroom-postgres-'))];
  const owner = {};
  if (process.getuid() === 0) { // PostgreSQL refuses to run as root
    owner.uid = Number(execFileSync('id', ['-u', 'postgres']));
    owner.gid = Number(execFileSync('id', ['-g', 'postgres']));
    fs.chownSync(dir, owner.uid, owner.gid);
  }
  const data = path.join(dir, 'data');
  execFileSync(find('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '--no-locale', '-E', 'UTF8'], { ...owner, cwd: dir, stdio: 'ignore' });
  const args = ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', dir];
  const server = await new Server(find('postgres'), args, { url: `postgres://postgres@127.0.0.1:${port}/postgres`, port, dir, ...owner }).start();
  return server;
}

// startStore starts one; 'file' needs no server.
export function startStore(kind) {
  switch (kind) {
    case 'redis': return startRedis();
    case 'postgres': return startPostgres();
    default: throw new Error(`no store ${kind}`);
  }
}

// A fleet is several processes of Cloakroom behind one address: a proxy that ends TLS and hands each request, not each
// connection, to the next one.
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { Child } from './process.mjs';
import { listen, until } from './net.mjs';

// balancer listens at port and forwards to the ports of pick(), with what a proxy says of the client.
async function balancer(port, certs, pick) {
  const agent = new http.Agent({ keepAlive: true });
  const said = (req) => (certs ? { 'x-forwarded-for': req.socket.remoteAddress, 'x-forwarded-proto': 'https' } : {});
  const forward = (req, res) => {
    const headers = [];
    for (let i = 0; i < req.rawHeaders.length; i += 2) {
      if (!/^x-forwarded-|^forwarded$/i.test(req.rawHeaders[i])) headers.push(req.rawHeaders[i], req.rawHeaders[i + 1]);
    }
    for (const [name, value] of Object.entries(said(req))) headers.push(name, value);
    const out = http.request({ host: '127.0.0.1', port: pick(), method: req.method, path: req.url, headers, agent, setHost: false });
    out.on('response', (answer) => { res.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders); res.flushHeaders(); answer.pipe(res); answer.on('aborted', () => res.destroy()); });
    out.on('error', () => { if (res.headersSent) res.destroy(); else { res.writeHead(502); res.end('balancer'); } });
    res.on('close', () => out.destroy());
    req.pipe(out);
  };
  const server = certs ? https.createServer({ cert: certs.cert, key: certs.key }, forward) : http.createServer(forward);
  const sockets = new Set();
  server.on('connection', (s) => { sockets.add(s); s.on('close', () => sockets.delete(s)); });
  server.on('upgrade', (req, socket, head) => {
    const to = net.connect(pick(), '127.0.0.1', () => {
      const lines = [`${req.method} ${req.url} HTTP/1.1`];
      for (let i = 0; i < req.rawHeaders.length; i += 2) lines.push(`${req.rawHeaders[i]}: ${req.rawHeaders[i + 1]}`);
      for (const [name, value] of Object.entries(said(req))) lines.push(`${name}: ${value}`);
      to.write(`${lines.join('\r\n')}\r\n\r\n`);
      to.write(head);
      to.pipe(socket).pipe(to);
    });
    for (const [one, other] of [[to, socket], [socket, to]]) one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  server.keepAliveTimeout = 60_000;
  await listen(server, port);
  return () => { for (const s of sockets) s.destroy(); agent.destroy(); return new Promise((done) => { server.close(done); }); };
}

// Fleet looks like one Child to a world.
export class Fleet {
  // configurations: one file per process, each on a port of its own.
  constructor(configurations, ports, port, certs, options) {
    this.children = configurations.map((file) => new Child(['serve', '--config', file], options));
    Object.assign(this, { ports, port, certs, next: 0 });
  }

  async start(ready) {
    this.down ??= await balancer(this.port, this.certs, () => this.ports[this.next++ % this.ports.length]);
    const listens = (port) => () => new Promise((done, fail) => {
      const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); done(true); }).on('error', fail);
    });
    await Promise.all(this.children.map((child, i) => child.start(listens(this.ports[i]))));
    for (const _ of this.ports) await until('the fleet answers', ready);
    return this;
  }

  async stop() {
    const ways = await Promise.all(this.children.map((child) => child.stop()));
    await this.down?.();
    return ways[0];
  }

  get output() { return this.children.map((child) => child.output).join(''); }

  faults() { return this.children.flatMap((child) => child.faults()); }
}

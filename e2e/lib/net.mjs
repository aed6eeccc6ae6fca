// Small things about sockets and bodies that several files need.
import net from 'node:net';

// listen binds a server to loopback and returns the port; port 0 or none picks a free one.
export function listen(server, port = 0) {
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen(port, '127.0.0.1', () => { server.off('error', fail); done(server.address().port); });
  });
}

// freePort finds a port that is free now, for a process that must be told its port.
export async function freePort() {
  const probe = net.createServer();
  const port = await listen(probe);
  await new Promise((done) => probe.close(done));
  return port;
}

export async function readBody(stream, limit = 64 << 20) {
  const parts = [];
  let size = 0;
  for await (const part of stream) {
    size += part.length;
    if (size > limit) throw new Error(`body over ${limit} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

// until polls a condition and fails loudly when it does not come true.
export async function until(what, check, { within = 10_000, every = 25 } = {}) {
  const end = Date.now() + within;
  let last;
  while (Date.now() < end) {
    try {
      const value = await check();
      if (value) return value;
    } catch (err) { last = err; }
    await new Promise((done) => { setTimeout(done, every); });
  }
  throw new Error(`${what}: not within ${within} ms${last ? ` (${last.message})` : ''}`);
}

// The team's API behind Cloakroom: it writes down every request, takes only a living access token of the provider,
// and answers with an echo, server-sent events, or a WebSocket echo.
import { createHash } from 'node:crypto';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { listen, readBody } from './net.mjs';

const PLANTED = ['__Host-Http-cloakroom', '__host-http-CLOAKROOM', '__Host-cloakroom-tx-x', 'cloakroom-80', '__Host-Http-cloakroom-device']
  .map((name) => `${name}=planted; Path=/; Secure; HttpOnly`);

// startAPI({valid}) → {url, requests, sockets, close}; valid(token) says whether a bearer is good now.
export async function startAPI({ valid }) {
  const requests = [];
  const sockets = new Set();
  const note = (req, body = '') => {
    const bearer = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1];
    requests.push({ method: req.method, url: req.url, headers: req.headers, rawHeaders: req.rawHeaders, body, bearer, ok: Boolean(bearer) && valid(bearer) });
    return requests.at(-1);
  };
  const server = http.createServer(async (req, res) => {
    let body;
    try { body = (await readBody(req)).toString('utf8'); } catch { return; } // the caller went away
    const seen = note(req, body);
    const open = req.url.startsWith('/open/') || req.url.startsWith('/members/');
    if (!seen.ok && !open) {
      res.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end();
      return;
    }
    if (req.url.endsWith('/plant')) { // an upstream that tries to set our cookies, and one of its own
      res.setHeader('set-cookie', [...PLANTED, 'own=1; Path=/']);
    }
    if (req.url.endsWith('/events')) { stream(res); return; }
    if (req.url.endsWith('/slow')) await delay(300);
    if (req.url.startsWith('/members/')) {
      res.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>Members</title><h1>Members only</h1>');
      return;
    }
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ method: req.method, url: req.url, body, cookie: req.headers.cookie ?? '' }));
  });
  server.on('upgrade', (req, socket) => {
    const seen = note(req);
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    if (!seen.ok) { socket.end('HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n'); return; }
    const accept = createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`);
    socket.on('data', (frame) => echo(socket, frame));
  });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}`, port, requests, sockets,
    close: () => new Promise((done) => { for (const s of sockets) s.destroy(); server.close(done); server.closeAllConnections(); }),
  };
}

function stream(res) {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  let n = 0;
  const tick = setInterval(() => { n++; res.write(`data: ${n}\n\n`); if (n === 3) { clearInterval(tick); res.end(); } }, 100);
  res.on('close', () => clearInterval(tick));
}

// echo answers one short text frame (RFC 6455 section 5.2: client frames are masked, and under 126 bytes here).
function echo(socket, frame) {
  const opcode = frame[0] & 0x0f;
  if (opcode === 8) { socket.end(Buffer.from([0x88, 0])); return; }
  const length = frame[1] & 0x7f;
  const mask = frame.subarray(2, 6);
  const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, i) => byte ^ mask[i % 4]));
  socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
}

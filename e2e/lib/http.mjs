// A small HTTP client with its own cookies, for what needs no browser: many sessions, many requests at once.
import http from 'node:http';
import https from 'node:https';
import { readBody } from './net.mjs';

// loopback is the lookup of our throw-away hosts.
const loopback = (_host, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));

export class Client {
  // origin: where the app is, as a browser sees it; ca: the throw-away authority, for https. port: another port to ask
  // there, for one process of a fleet; cookies: another client's, to be the same browser.
  constructor(origin, { ca, sockets = 64, port, cookies = new Map() } = {}) {
    Object.assign(this, { origin, port, cookies });
    const tls = origin.startsWith('https:');
    this.module = tls ? https : http;
    this.agent = new this.module.Agent({ keepAlive: true, maxSockets: sockets, ca, lookup: loopback });
  }

  // request(method, path, {json, form, body, headers, signal, bare}) → {status, headers, text, json()}
  // bare: as another server sends it, without what browsers add.
  request(method, path, { json, form, body, headers = {}, signal, bare = false } = {}) {
    const send = bare ? { ...headers } : { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', ...headers };
    if (json !== undefined) { body = JSON.stringify(json); send['content-type'] = 'application/json'; }
    if (form !== undefined) { body = new URLSearchParams(form).toString(); send['content-type'] = 'application/x-www-form-urlencoded'; }
    if (body !== undefined) send['content-length'] = Buffer.byteLength(body);
    if (!bare && method !== 'GET' && method !== 'HEAD') send.origin = this.origin;
    if (this.cookies.size > 0 && !('cookie' in send)) send.cookie = [...this.cookies].map(([k, v]) => `${k}=${v}`).join('; ');
    return new Promise((done, fail) => {
      const url = new URL(path, this.origin);
      if (this.port) { send.host = url.host; url.port = this.port; }
      const req = this.module.request(url, { method, headers: send, agent: this.agent, signal });
      req.on('error', fail);
      req.on('response', (res) => {
        this.#keep(res.headers['set-cookie'] ?? []);
        readBody(res).then((bytes) => {
          const text = bytes.toString('utf8');
          done({ status: res.statusCode, headers: res.headers, text, json: () => JSON.parse(text) });
        }, fail);
      });
      req.end(body);
    });
  }

  get(path, options) { return this.request('GET', path, options); }

  post(path, options) { return this.request('POST', path, options); }

  // events opens the stream of this session's events; each one is handed to heard, the end to gone.
  events(heard, gone = () => {}) {
    const url = new URL('/auth/events', this.origin);
    const headers = { host: url.host, accept: 'text/event-stream', 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors', cookie: [...this.cookies].map(([k, v]) => `${k}=${v}`).join('; ') };
    if (this.port) url.port = this.port;
    return new Promise((done, fail) => {
      const req = this.module.get(url, { headers, agent: this.agent }, (res) => {
        if (res.statusCode !== 200) { fail(new Error(`events: ${res.statusCode}`)); return; }
        let text = '';
        res.setEncoding('utf8').on('data', (part) => {
          text += part;
          for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
            const type = /^event: (.*)$/m.exec(text.slice(0, end));
            if (type) heard(type[1]);
          }
        }).on('close', gone).on('error', gone);
        done(() => req.destroy());
      });
      req.on('error', fail);
    });
  }

  // login uses the own-domain form's JSON.
  async login({ username, password }, more = {}) {
    const answer = await this.post('/auth/login', { json: { username, password, ...more } });
    if (answer.status !== 200) throw new Error(`login of ${username}: ${answer.status} ${answer.text}`);
    return answer.json();
  }

  #keep(lines) {
    for (const line of lines) {
      const [pair] = line.split(';');
      const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
      if (/max-age=(0|-\d+)/i.test(line) || value === '') this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
  }

  close() { this.agent.destroy(); }
}

// Pages of other people: https (or http) servers that answer any path with an empty page, and write down nothing.
import http from 'node:http';
import https from 'node:https';
import { listen } from './net.mjs';

export async function startPages(certs) {
  const answer = (_req, res) => {
    res.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'referrer-policy': 'unsafe-url' });
    res.end('<!doctype html><title>other site</title><body></body>');
  };
  const server = certs ? https.createServer({ cert: certs.cert, key: certs.key }, answer) : http.createServer(answer);
  const port = await listen(server);
  return { port, close: () => new Promise((done) => { server.close(done); server.closeAllConnections(); }) };
}

// attack runs in a page of another origin: it sends one request of one kind and reports how it went for the sender.
// What counts is measured elsewhere: what arrived at the API, and what changed.
export async function attack({ vector, url }) {
  const settle = (element, add) => new Promise((done) => {
    const end = (how) => { clearTimeout(timer); done(how); };
    const timer = setTimeout(() => end('timeout'), 1500);
    element.onload = () => end('load');
    element.onerror = () => end('error');
    add(element);
  });
  const make = (tag, set) => settle(Object.assign(document.createElement(tag), set), (e) => document.body.append(e));
  const post = (enctype, fields) => {
    const frame = document.createElement('iframe');
    frame.name = `f${Math.random().toString(36).slice(2)}`;
    const form = Object.assign(document.createElement('form'), { method: 'post', action: url, target: frame.name, enctype });
    for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement('input'), { name, value }));
    document.body.append(form);
    return settle(frame, (f) => { document.body.append(f); form.submit(); });
  };
  const body = JSON.stringify({ username: 'bob', password: 'bob has another one' });
  const fetched = (init) => fetch(url, { credentials: 'include', ...init }).then((r) => `${r.type} ${r.status}`, (e) => `refused ${e.name}`);
  const vectors = {
    form: () => post('application/x-www-form-urlencoded', { username: 'bob', password: 'bob has another one' }),
    'form as text': () => post('text/plain', { [body.slice(0, -1)]: '}' }),
    'fetch GET': () => fetched({}),
    'fetch GET no-cors': () => fetched({ mode: 'no-cors' }),
    'fetch POST': () => fetched({ method: 'POST', body }),
    'fetch POST no-cors': () => fetched({ method: 'POST', mode: 'no-cors', body }),
    'fetch POST JSON': () => fetched({ method: 'POST', body, headers: { 'content-type': 'application/json' } }),
    'fetch DELETE with X-Cloakroom': () => fetched({ method: 'DELETE', headers: { 'x-cloakroom': '1' } }),
    beacon: async () => String(navigator.sendBeacon(url, body)),
    img: () => make('img', { src: url }),
    script: () => make('script', { src: url }),
    stylesheet: () => make('link', { rel: 'stylesheet', href: url }),
    iframe: () => make('iframe', { src: url }),
    object: () => make('object', { data: url }),
    WebSocket: () => new Promise((done) => {
      const socket = new WebSocket(url.replace(/^http/, 'ws'));
      socket.onopen = () => { socket.send('attack'); done('open'); };
      socket.onerror = () => done('error');
      setTimeout(() => done('timeout'), 1500);
    }),
    EventSource: () => new Promise((done) => {
      const source = new EventSource(url, { withCredentials: true });
      source.onopen = () => { source.close(); done('open'); };
      source.onerror = () => { source.close(); done('error'); };
      setTimeout(() => done('timeout'), 1500);
    }),
  };
  return vectors[vector]();
}

export const VECTORS = ['form', 'form as text', 'fetch GET', 'fetch GET no-cors', 'fetch POST', 'fetch POST no-cors', 'fetch POST JSON',
  'fetch DELETE with X-Cloakroom', 'beacon', 'img', 'script', 'stylesheet', 'iframe', 'object', 'WebSocket', 'EventSource'];

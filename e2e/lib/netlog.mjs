// Chromium's own record of the network: every header and every decoded body byte, of every frame, worker and
// redirect, also where a page was gone before a script could have read it.
import fs from 'node:fs';

// readNetlog(file) → entries as the Recorder makes them. The browser must have been closed.
export function readNetlog(file) {
  const { constants, events } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const kinds = new Map(Object.entries(constants.logEventTypes).map(([name, id]) => [id, name]));
  const request = constants.logSourceType.URL_REQUEST;
  const open = new Map(); // source → the hop of a request that is being read
  const entries = [];
  const flush = (hop) => {
    if (hop?.body.length) entries.push({ where: 'response body', url: hop.url, text: Buffer.concat(hop.body).toString('utf8') });
  };
  for (const { type, source, params } of events) {
    if (source.type !== request || !params) continue;
    const kind = kinds.get(type);
    if (kind === 'URL_REQUEST_START_JOB' && params.url) {
      flush(open.get(source.id));
      open.set(source.id, { url: params.url, body: [] });
      entries.push({ where: 'request url', url: params.url, text: params.url });
    }
    const hop = open.get(source.id);
    if (!hop) continue;
    if (kind === 'URL_REQUEST_JOB_FILTERED_BYTES_READ' && params.bytes) hop.body.push(Buffer.from(params.bytes, 'base64'));
    if (params.headers && /SEND_REQUEST_HEADERS$/.test(kind)) note('request headers', hop, params.headers);
    if (params.headers && /READ_RESPONSE_HEADERS$/.test(kind)) note('response headers', hop, params.headers);
  }
  for (const hop of open.values()) flush(hop);
  function note(where, { url }, headers) { entries.push({ where, url, text: Array.isArray(headers) ? headers.join('\n') : JSON.stringify(headers) }); }
  return entries;
}

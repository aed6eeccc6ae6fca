// A certificate authority and one leaf certificate, made anew for each run and thrown away with it.
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

// The names of the throw-away hosts. Chromium maps *.test to loopback; nothing is looked up anywhere.
const NAMES = ['DNS:app.test', 'DNS:sub.app.test', 'DNS:evil.test', 'DNS:localhost', 'IP:127.0.0.1'];

export function makeCerts(dir) {
  const at = (name) => path.join(dir, name);
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...ec, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', '2', '-subj', '/CN=cloakroom e2e',
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign');
  openssl('req', ...ec, '-keyout', at('leaf.key'), '-out', at('leaf.csr'), '-subj', '/CN=app.test');
  fs.writeFileSync(at('leaf.ext'), `subjectAltName=${NAMES.join(',')}\nextendedKeyUsage=serverAuth\n`);
  openssl('x509', '-req', '-in', at('leaf.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial',
    '-out', at('leaf.pem'), '-days', '2', '-extfile', at('leaf.ext'));
  const cert = fs.readFileSync(at('leaf.pem'));
  const spki = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  return {
    ca: at('ca.pem'), certFile: at('leaf.pem'), keyFile: at('leaf.key'),
    cert, key: fs.readFileSync(at('leaf.key')),
    spki: createHash('sha256').update(spki).digest('base64'), // for --ignore-certificate-errors-spki-list
  };
}

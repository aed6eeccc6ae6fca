// The certified third-party provider (npm oidc-provider), with one-time refresh tokens whose reuse revokes the whole
// grant, access tokens of a few seconds, and a `password` grant registered through its public extension API.
// Everything it issues or is sent in secret is kept in `secrets`, so that the leak check can search for exact values.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { exportJWK, generateKeyPair } from 'jose';
import { Client } from './http.mjs';
import { listen } from './net.mjs';
import { hostedPages } from './op-pages.mjs';
import { MapAdapter } from './op-adapter.mjs';

URL.parse ??= (u, b) => { try { return new URL(u, b); } catch { return null; } }; // Node 20

export const CLIENT = { id: 'app', secret: 'e2e client secret & + % =' };
export const USERS = {
  alice: 'correct horse battery',
  bob: 'bob has another one',
  'zoë': 'pä&+%= ss\u00a0wörd 🔑', // must arrive byte for byte
};

// CAROL has a second factor: it is asked for at the password grant, and where acr_values asks for GOLD.
export const CAROL = { name: 'carol', password: 'carol has a second factor', code: '246810' };
const PASSWORDS = { ...USERS, [CAROL.name]: CAROL.password };
const CODES = { [CAROL.name]: CAROL.code };
export const GOLD = 'urn:example:gold';
const MFA_OTP = 'http://auth0.com/oauth/grant-type/mfa-otp'; // as Auth0 and Okta name it

export const API = 'https://api.test'; // the audience of JWT access tokens
export const ORDERS = 'https://orders.test', MAIL = 'https://mail.test'; // further ones
const SCOPES = { [ORDERS]: 'orders:read', [MAIL]: 'mail:send' };
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const resourceServer = (state, resource) => ({ scope: SCOPES[resource] ?? 'openid profile email', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: state.accessLife });

// startProvider({certs, port, app, callback, accessLife, accessFormat}) → {issuer, state, counts, secrets, close}. Without
// certs it speaks plain http.
export async function startProvider({ certs, port, app, callback = '/auth/callback', accessLife = 300, accessFormat = 'opaque' }) {
  const { Provider, errors } = await import('oidc-provider');
  const state = { accessLife, tokenDelay: 0, answerDelay: 0, rotates: true, down: false, revoked: 0 };
  const counts = {}; // token requests per grant type
  const refused = []; // error codes of the token endpoint
  const notices = []; // what came of each back-channel logout
  const secrets = new Map(); // value → what it is
  const expiry = new Map(); // access token → when it ends, ms
  const remember = (value, what) => { if (typeof value === 'string' && value.length >= 8) secrets.set(value, what); };

  const server = certs ? https.createServer({ cert: certs.cert, key: certs.key }) : http.createServer();
  const bound = await listen(server, port);
  const issuer = `${certs ? 'https' : 'http'}://127.0.0.1:${bound}`;
  const op = new Provider(issuer, await configuration({ app, callback, state, accessFormat, send: sender(certs, remember) }));
  op.on('backchannel.success', () => notices.push('ok'));
  op.on('backchannel.error', (_ctx, err) => notices.push(err.message));
  op.on('server_error', (_ctx, err) => console.error('op:', err));
  const pending = new Map(); // mfa_token → who has shown the password, and for what
  const resource = accessFormat === 'jwt' && (() => resourceServer(state, API));
  op.registerGrantType('password', passwordGrant(op, errors, resource, pending), ['username', 'password', 'scope']);
  op.registerGrantType(EXCHANGE, exchangeGrant(op, errors, state), ['subject_token', 'subject_token_type', 'requested_token_type', 'audience']);
  op.registerGrantType(MFA_OTP, secondFactorGrant(op, errors, resource, pending), ['mfa_token', 'otp']);

  op.use(async (ctx, next) => {
    if (state.down) { ctx.status = 503; ctx.body = { error: 'temporarily_unavailable' }; return; }
    if (ctx.path === '/mfa/authenticators') { // what the password grant's mfa_token opens
      const known = pending.has((ctx.get('authorization') ?? '').replace(/^Bearer /, ''));
      [ctx.status, ctx.body] = known ? [200, [{ id: 'totp|app', authenticator_type: 'otp', active: true }]] : [401, { error: 'invalid_grant' }];
      return;
    }
    const token = ctx.path === '/token';
    if (token && state.tokenDelay) await delay(state.tokenDelay);
    await next();
    if (ctx.path === '/token/revocation' && ctx.status === 200) state.revoked++;
    if (token) noteToken(ctx);
    if (token && state.answerDelay) await delay(state.answerDelay);
    noteCode(ctx.response.get('location'));
  });

  function noteToken(ctx) {
    const sent = ctx.oidc?.body ?? {};
    if (!sent.grant_type && ctx.req.destroyed) return; // the client was gone before it could be read
    counts[sent.grant_type] = (counts[sent.grant_type] ?? 0) + 1;
    remember(sent.code_verifier, 'code verifier');
    remember(sent.password, 'password');
    remember(ctx.body?.mfa_token, 'mfa_token');
    const got = ctx.body ?? {};
    if (got.error) refused.push(`${sent.grant_type}: ${got.error}`);
    remember(got.access_token, 'access token');
    remember(got.refresh_token, 'refresh token');
    remember(got.id_token, 'ID token');
    if (got.access_token) expiry.set(got.access_token, Date.now() + got.expires_in * 1000);
  }
  function noteCode(location) {
    if (!location) return;
    const code = URL.parse(location, issuer)?.searchParams.get('code');
    remember(code, 'authorization code');
  }

  remember(CLIENT.secret, 'client secret');
  remember(encodeURIComponent(CLIENT.secret), 'client secret, encoded');
  const pages = hostedPages(op, PASSWORDS, { codes: CODES, gold: GOLD });
  const core = op.callback();
  server.on('request', (req, res) => {
    if (!state.down && req.url.startsWith('/interaction/')) pages(req, res).catch((err) => { console.error('op page:', err); res.writeHead(500).end(); });
    else core(req, res);
  });
  return {
    issuer, port: bound, state, counts, refused, notices, secrets,
    // valid says whether an API may take this access token now.
    valid: (token) => (expiry.get(token) ?? 0) > Date.now(),
    known: (token) => expiry.has(token),
    close: () => new Promise((done) => { server.close(done); server.closeAllConnections(); }),
  };
}

// sender is what the provider sends logout tokens with, in place of a fetch that refuses loopback and does not know the
// throw-away authority.
const sender = (certs, remember) => async (url, { method, headers, body }) => {
  remember(body.get('logout_token'), 'logout token');
  const { origin, pathname } = new URL(url);
  const client = new Client(origin, { ca: certs && fs.readFileSync(certs.ca) });
  try {
    const answer = await client.request(method, pathname, { body: body.toString(), headers: Object.fromEntries(headers), bare: true });
    return new Response(answer.text || null, { status: answer.status });
  } finally { client.close(); }
};

async function configuration({ app, callback, state, accessFormat, send }) {
  const jwk = async (alg) => ({ ...(await exportJWK((await generateKeyPair(alg, { extractable: true })).privateKey)), alg, use: 'sig', kid: alg });
  return {
    adapter: MapAdapter,
    fetch: send,
    clients: [{
      client_id: CLIENT.id, client_secret: CLIENT.secret, token_endpoint_auth_method: 'client_secret_basic',
      redirect_uris: [`${app}${callback}`], post_logout_redirect_uris: [`${app}/`],
      backchannel_logout_uri: `${app}/auth/backchannel-logout`, backchannel_logout_session_required: true,
      grant_types: ['password', MFA_OTP, EXCHANGE, 'authorization_code', 'refresh_token', 'client_credentials'], response_types: ['code'],
    }],
    jwks: { keys: [await jwk('RS256'), await jwk('ES256')] },
    findAccount: (_ctx, id) => PASSWORDS[id] && {
      accountId: id, claims: () => ({ sub: id, email: `${id}@example.test`, name: id }),
    },
    acrValues: [GOLD],
    scopes: ['openid', 'offline_access', 'profile', 'email'],
    claims: { openid: ['sub', 'sid'], profile: ['name'], email: ['email'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['e2e'] },
    pkce: { required: () => true },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: () => state.rotates,
    expiresWithSession: () => false,
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: grantAll,
    ttl: { AccessToken: () => state.accessLife, IdToken: 300, RefreshToken: 86400, Session: 3600, Grant: 86400, Interaction: 600, AuthorizationCode: 60 },
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => (accessFormat === 'jwt' ? API : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => resourceServer(state, resource),
      },
      clientCredentials: { enabled: true },
    },
  };
}

// grantAll consents to what was asked: the suite tests our side, not the provider's consent page.
async function grantAll(ctx) {
  const { oidc } = ctx;
  const known = oidc.result?.consent?.grantId ?? oidc.session.grantIdFor(oidc.client.clientId);
  const grant = (known && await oidc.provider.Grant.find(known))
    || new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
  grant.addOIDCScope('openid profile email offline_access');
  grant.addResourceScope(API, 'openid profile email');
  grant.addResourceScope(ORDERS, SCOPES[ORDERS]);
  await grant.save();
  return grant;
}

// logoutSource is the provider's own "log out?" page, with its one button.
async function logoutSource(ctx, form) {
  ctx.body = `<!doctype html><title>Provider logout</title>${form}
<button id="op-logout" type="submit" form="op.logoutForm" value="yes" name="logout">Log out of the provider</button>`;
}

function passwordGrant(op, errors, resource, pending) {
  return async (ctx) => {
    const { params } = ctx.oidc;
    if (!params.password || PASSWORDS[params.username] !== params.password) throw new errors.InvalidGrant('bad credentials');
    if (!CODES[params.username]) return tokens(op, ctx, { accountId: params.username, scope: params.scope, resource });
    const token = randomBytes(24).toString('base64url');
    pending.set(token, { accountId: params.username, scope: params.scope });
    ctx.status = 403;
    ctx.body = { error: 'mfa_required', error_description: 'Multifactor authentication required', mfa_token: token };
  };
}

function secondFactorGrant(op, errors, resource, pending) {
  return async (ctx) => {
    const { mfa_token: token, otp } = ctx.oidc.params;
    const who = pending.get(token);
    if (!who) throw new errors.InvalidGrant('Malformed mfa_token');
    if (CODES[who.accountId] !== otp) throw new errors.InvalidGrant('Invalid otp_code.');
    pending.delete(token);
    await tokens(op, ctx, { ...who, resource });
  };
}

// exchangeGrant is RFC 8693, as much of it as a client sees: a good access token of a person for one for an audience.
function exchangeGrant(op, errors, state) {
  return async (ctx) => {
    const { client, params } = ctx.oidc;
    const claims = jwtClaims(params.subject_token);
    if (!claims?.sub || claims.exp * 1000 < Date.now()) throw new errors.InvalidRequest('subject_token');
    const at = new op.AccessToken({ accountId: claims.sub, client, gty: 'token_exchange', scope: 'stock' });
    const grant = new op.Grant({ clientId: client.clientId, accountId: claims.sub });
    at.grantId = await grant.save();
    at.resourceServer = new op.ResourceServer(params.audience, { scope: 'stock', audience: params.audience, accessTokenFormat: 'jwt', accessTokenTTL: state.accessLife });
    ctx.body = {
      access_token: await at.save(), issued_token_type: 'urn:ietf:params:oauth:token-type:access_token', token_type: at.tokenType, expires_in: at.expiration, scope: 'stock',
    };
  };
}

// jwtClaims are what a token says, unchecked.
export function jwtClaims(token) {
  try { return JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString()); } catch { return undefined; }
}

async function tokens(op, ctx, { accountId, scope: asked, resource }) {
  const { client } = ctx.oidc;
  const scope = (asked || 'openid').split(' ').filter((s) => s !== '').join(' ');
  const grant = new op.Grant({ clientId: client.clientId, accountId });
  grant.addOIDCScope(scope);
  const grantId = await grant.save();
  const authTime = Math.floor(Date.now() / 1000);
  const at = new op.AccessToken({ accountId, client, grantId, gty: 'password', scope });
  const rt = new op.RefreshToken({ accountId, authTime, client, grantId, gty: 'password', iiat: authTime, rotations: 0, scope });
  const id = new op.IdToken({ sub: accountId, auth_time: authTime, name: accountId, email: `${accountId}@example.test` }, { ctx });
  id.scope = scope;
  if (resource) {
    at.resourceServer = new op.ResourceServer(API, resource());
    rt.resource = API;
  }
  const accessToken = await at.save();
  id.set('at_hash', accessToken);
  ctx.body = {
    access_token: accessToken, token_type: at.tokenType, expires_in: at.expiration, scope: at.scope,
    refresh_token: await rt.save(), id_token: await id.issue({ use: 'idtoken' }),
  };
}

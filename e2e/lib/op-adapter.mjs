// The provider's storage: a plain map without a bound, so that no test loses a grant to an LRU (its own default
// keeps a thousand entries, which two hundred sessions with rotation outgrow).
const items = new Map(); // "Model:id" → payload
const grants = new Map(); // grant id → keys of what was issued under it
const uids = new Map();

export class MapAdapter {
  constructor(model) { this.model = model; }

  key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload) {
    items.set(this.key(id), payload);
    if (payload.uid) uids.set(payload.uid, id);
    if (payload.grantId) {
      const keys = grants.get(payload.grantId) ?? new Set();
      grants.set(payload.grantId, keys.add(this.key(id)));
    }
  }

  async find(id) { return items.get(this.key(id)); }

  async findByUid(uid) { return this.find(uids.get(uid)); }

  async findByUserCode() { return undefined; }

  async consume(id) { items.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { items.delete(this.key(id)); }

  async revokeByGrantId(grantId) {
    for (const key of grants.get(grantId) ?? []) items.delete(key);
    grants.delete(grantId);
  }
}

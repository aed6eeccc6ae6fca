export async function startDemo() { throw new Error('not yet'); }

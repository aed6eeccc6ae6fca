// The plainest app there is: it asks who is logged in and calls its API, with no library and no added header.
const session = await (await fetch('/auth/session')).json();
document.querySelector('#user').value = session.authenticated ? session.user.sub : 'nobody';
const answer = await fetch('/api/hello');
document.querySelector('#api').value = String(answer.status);

// The token that the page shows: given after the # of its address, which browsers send to nobody. It is taken out of
// the address at once, and kept for as long as the tab is open.

const KEY = 'runcast-token';

/** The token, or null. */
export const token = take();

/** Headers with the token, if there is one. */
export function authorized(headers = {}) {
  return token ? { ...headers, authorization: `Bearer ${token}` } : headers;
}

/** A ticket for one connection; throws if there is none to be had. */
export async function ticket() {
  const answer = await fetch('/v1/tickets', {
    method: 'POST', headers: authorized(), signal: AbortSignal.timeout(5_000),
  });
  if (!answer.ok) throw new Error(`no ticket: ${answer.status}`);
  return (await answer.json()).ticket;
}

function take() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get('token');
  if (given) {
    fragment.delete('token');
    const rest = String(fragment);
    history.replaceState(history.state, '', `${location.pathname}${location.search}${rest && `#${rest}`}`);
  }
  try {
    if (given) sessionStorage.setItem(KEY, given);
    return given ?? sessionStorage.getItem(KEY);
  } catch {
    return given; // Storage is switched off: good until the page is loaded again.
  }
}

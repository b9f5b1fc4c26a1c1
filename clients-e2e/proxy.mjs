// A TCP proxy that cuts its connections: after some bytes or some time, whichever comes first, half
// of the times with a reset, the others with a plain close in the middle of a frame.

import net from 'node:net';
import { numbers } from './text.mjs';

/**
 * Forwards to 127.0.0.1:`target` and cuts the first `cuts` connections that carry an answer.
 * Resolves to `{port, requests, cut, allCut, close}`: `requests` are the requests' Last-Event-ID values in
 * their order (null: none was sent), `cut` counts the cuts, `allCut` resolves after the last of them.
 */
export function startProxy({ target, seed, cuts }) {
  const random = numbers(seed);
  const open = new Set();
  const proxy = { requests: [], cut: 0 };
  let tellAllCut;
  proxy.allCut = new Promise((resolve) => (tellAllCut = resolve));

  const server = net.createServer((client) => {
    const upstream = net.connect(target, '127.0.0.1');
    const pair = [client, upstream];
    pair.forEach((socket) => {
      open.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => end());
      socket.on('close', () => {
        open.delete(socket);
        end();
      });
    });
    const end = () => {
      clearTimeout(timer);
      pair.forEach((socket) => socket.destroy());
    };

    const doomed = proxy.cut < cuts;
    let left = doomed ? 300 + Math.floor(random() ** 2 * 24_000) : Infinity;
    const limit = 200 + random() * 1_200;
    let timer;
    const cut = (last) => {
      if (client.destroyed) return;
      if (++proxy.cut === cuts) tellAllCut();
      if (last?.length) client.write(last);
      if (proxy.cut % 2) client.resetAndDestroy();
      else client.end();
      upstream.destroy();
    };

    let head = '';
    client.on('data', (bytes) => {
      // Requests have no bodies: what comes from a client is heads, one after the other.
      head += bytes.toString('latin1');
      for (let stop; (stop = head.indexOf('\r\n\r\n')) >= 0; head = head.slice(stop + 4)) {
        proxy.requests.push(/^last-event-id: *(.*?)\r?$/im.exec(head.slice(0, stop))?.[1] ?? null);
      }
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      if (doomed) timer ??= setTimeout(cut, limit);
      if (bytes.length >= left) return cut(bytes.subarray(0, left));
      left -= bytes.length;
      client.write(bytes);
    });
    client.on('end', () => upstream.end());
    upstream.on('end', () => client.end());
  });

  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      proxy.port = server.address().port;
      proxy.close = () => {
        server.close();
        open.forEach((socket) => socket.destroy());
      };
      resolve(proxy);
    });
  });
}

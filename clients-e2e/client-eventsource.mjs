// npm `eventsource`: `node client-eventsource.mjs URL`.

import { EventSource } from 'eventsource';
import { Transcript } from './transcript.mjs';

const transcript = new Transcript();
const source = new EventSource(process.argv[2]);
for (const name of ['message', 'output', 'log', 'status', 'metric', 'snapshot', 'start', 'gap', 'end']) {
  source.addEventListener(name, (event) => transcript.take(name, event.data));
}
// It is not closed at `end`: that it stops by itself, on the 204 that follows, is part of the test.
source.addEventListener('error', (event) => {
  console.error(`error ${event.code ?? ''} ${event.message ?? ''}`);
  if (source.readyState === EventSource.CLOSED) transcript.finish(String(event.code));
});

// npm `eventsource-client`: `node client-eventsource-client.mjs URL`.

import { createEventSource } from 'eventsource-client';
import { Transcript } from './transcript.mjs';

const transcript = new Transcript();
let status = 0;
const source = createEventSource({
  url: process.argv[2],
  fetch: async (url, init) => {
    const answer = await fetch(url, init);
    status = answer.status;
    return answer;
  },
  onScheduleReconnect: ({ delay }) => console.error(`reconnecting in ${delay} ms`),
});
// The loop ends when the client stops by itself, which it does on the 204 after the run's end.
for await (const { event, data } of source) transcript.take(event ?? 'message', data);
transcript.finish(String(status));

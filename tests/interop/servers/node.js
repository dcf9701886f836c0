// Node's own HTTP server: one line for each request that it has read.
const http = require('http');

const server = http.createServer((request, response) => {
  console.log(request.method, request.url);
  request.resume();
  request.on('end', () => {
    response.setHeader('X-Seen', `${request.method} ${request.url}`);
    response.end('ok\n');
  });
});
server.on('connect', (request, socket) => {
  console.log(request.method, request.url);
  socket.end('HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
});
server.on('clientError', (error, socket) => {
  // Not that a client has gone away.
  if (String(error.code).startsWith('HPE_')) console.log('BAD', error.code);
  if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]));

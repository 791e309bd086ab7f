"""A TCP proxy that fails on command, to stand before PostgreSQL and Kafka in fault tests.

Tests are synchronous; a proxy runs in a thread of its own, on a Trio loop of its own. What a test tells it holds when
the call returns, for connections that exist and for new ones.

    with Proxy("127.0.0.1", server.port) as proxy:      # clients connect to proxy.port
        proxy.delay(200)                                # both ways
        proxy.black_hole(TO_CLIENT)
        proxy.heal()

  faults   what can be done to bytes: delay, throttle, chop, hole, limit, flip; pure
  queues   one direction's bytes on their way, and a bell that whoever waits listens to
  lane     one direction of one connection: read, queue, write
  link     one connection: two sockets, two lanes
  proxy    the listener, the thread, and what tests call
  frames   Kafka's requests and answers as they lie in a stream; pure
  answers  answers with an error code, made from a request; pure
  rules    what tests want done to certain requests and answers
  kafka    a proxy that obeys rules
  cluster  brokers that tell their clients the proxies' addresses
"""

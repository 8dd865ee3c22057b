package io.socket.client;

/** As in socket.io-client-java 2. */
public interface Ack {
    void call(Object... arguments);
}

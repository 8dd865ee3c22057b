package io.socket.client;

import io.socket.emitter.Emitter;
import java.util.ArrayDeque;
import java.util.Deque;

/** As in socket.io-client-java 2, as far as the example needs it. What is emitted is kept for the test. */
public class Socket extends Emitter {
    public static final String EVENT_CONNECT = "connect";

    public record Emitted(String event, Object argument, Ack ack) {}

    public final Deque<Emitted> emitted = new ArrayDeque<>();
    public boolean isConnected;

    public boolean connected() {
        return isConnected;
    }

    public Emitter emit(String event, Object... arguments) {
        emitted.add(new Emitted(event, arguments[0], (Ack) arguments[1]));
        return this;
    }
}

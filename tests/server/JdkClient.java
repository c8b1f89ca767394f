import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Scanner;

/**
 * Posts what standard input says, one request a line (path, how the body is sent, body in base64),
 * with one JDK client as it is without any setting: it offers h2c with every request. Prints the
 * status and, in base64, the body of each reply.
 */
public class JdkClient {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8);
        while (lines.hasNextLine()) {
            String[] words = lines.nextLine().split(" ");
            byte[] body = Base64.getDecoder().decode(words[2]);
            HttpRequest.BodyPublisher whole = BodyPublishers.ofByteArray(body);
            HttpRequest.Builder request =
                    HttpRequest.newBuilder(URI.create(arguments[0] + words[0]))
                            .header("Content-Type", "application/json")
                            .expectContinue(words[1].equals("expect"))
                            .POST(
                                    words[1].equals("chunks")
                                            ? BodyPublishers.fromPublisher(whole)
                                            : whole);
            HttpResponse<byte[]> reply = client.send(request.build(), BodyHandlers.ofByteArray());
            String text = Base64.getEncoder().encodeToString(reply.body());
            System.out.println(reply.statusCode() + " " + reply.version() + " " + text);
        }
    }
}
